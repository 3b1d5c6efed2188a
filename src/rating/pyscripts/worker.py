"""The worker of ratekitty's pyscripts module: runs scripts over dataframes.

It reads requests from standard input and writes answers to standard output,
each a JSON text after its length in four bytes, big end first; before the first
one it writes "well". What scripts print is kept apart and told in the answer.
"""

import sys


def main():
    import base64
    import datetime
    import io
    import json
    import os
    import resource
    import traceback
    from decimal import Decimal, InvalidOperation

    memory, longest_print = int(sys.argv[1]), 4096
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))

    # Scripts have standard streams of their own.
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)

    class Printed(io.TextIOBase):
        """Keeps the beginning of what is printed."""

        def __init__(self):
            self.parts, self.length = [], 0

        def writable(self):
            return True

        def write(self, text):
            left = longest_print - self.length
            if left > 0:
                self.parts.append(text[:left])
                self.length += len(text[:left])
            return len(text)

    class Nonsense(Exception):
        """What a script left behind is no dataframe."""

    def number(value, what):
        if isinstance(value, Decimal):
            result = value
        elif isinstance(value, bool):
            raise Nonsense(f"{what} is {value!r}, not a number")
        elif isinstance(value, (int, str)):
            try:
                result = Decimal(value)
            except InvalidOperation:
                raise Nonsense(f"{what} is {value!r}, not a number") from None
        elif isinstance(value, float):
            result = Decimal(str(value))
        else:
            raise Nonsense(f"{what} is {value!r}, not a number")
        if not result.is_finite():
            raise Nonsense(f"{what} is {value!r}, which cannot be billed")
        return result

    def labels(value, what):
        if type(value) is not dict:
            if not isinstance(value, dict):
                raise Nonsense(f"{what} is no dict: {value!r}")
            value = dict(value)
        for name in value:
            if type(name) is not str:
                raise Nonsense(f"a name in {what} is no text: {name!r}")
        return value

    point_keys = frozenset(("vol", "rating", "groupby", "metadata"))

    def point(value, what):
        """A point that a script left behind, as (unit, quantity, price, groupby, metadata)."""
        if not isinstance(value, dict):
            raise Nonsense(f"{what} is no dict: {value!r}")
        if not point_keys.issuperset(value):
            raise Nonsense(f"{what} has keys beside vol, rating, groupby and metadata")
        try:
            vol, groupby, metadata = value["vol"], value["groupby"], value["metadata"]
        except KeyError as error:
            raise Nonsense(f"{what} has no {error}") from None
        rating = value.get("rating", {"price": 0})
        if not isinstance(vol, dict) or set(vol) != {"unit", "qty"}:
            raise Nonsense(f"vol of {what} is not unit and qty: {vol!r}")
        if not isinstance(rating, dict) or set(rating) - {"price"}:
            raise Nonsense(f"rating of {what} is not price: {rating!r}")
        unit = vol["unit"]
        if not isinstance(unit, str):
            raise Nonsense(f"unit of {what} is no text: {unit!r}")
        return (
            unit or "undefined",
            number(vol["qty"], "a quantity of " + what),
            number(rating.get("price", 0), "a price of " + what),
            labels(groupby, "groupby of " + what),
            labels(metadata, "metadata of " + what),
        )

    def run(code, usage, begin, end):
        data = {
            "period": {"begin": begin, "end": end},
            "usage": {
                kind: [
                    {
                        "vol": {"unit": unit, "qty": qty},
                        "rating": {"price": price},
                        "groupby": dict(groupby),
                        "metadata": dict(metadata),
                    }
                    for unit, qty, price, groupby, metadata in points
                ]
                for kind, points in usage.items()
            },
        }
        context = {"data": data}
        exec(code, context)
        data = context.get("data")
        if not isinstance(data, dict) or set(data) != {"period", "usage"}:
            raise Nonsense("data is not a dict of period and usage any more")
        if data["period"] != {"begin": begin, "end": end}:
            raise Nonsense("the period was changed")
        if not isinstance(data["usage"], dict):
            raise Nonsense("usage is no dict any more")
        result = {}
        for kind in data["usage"]:
            if not isinstance(kind, str):
                raise Nonsense(f"a type of data points is no text: {kind!r}")
        for kind in sorted(data["usage"]):
            points, what = data["usage"][kind], f"a point of type {kind!r}"
            if not isinstance(points, (list, tuple)):
                raise Nonsense(f"the points of type {kind!r} are no list")
            result[kind] = [point(value, what) for value in points]
        return result

    sources, compiled = {}, {}

    def answer(request):
        # Each text is sent once, also if a script before it fails now.
        for script in request["scripts"]:
            if "data" in script:
                sources[script["name"], script["checksum"]] = script["data"]
        zone = datetime.timezone(datetime.timedelta(seconds=request["offset"]))
        begin = datetime.datetime.fromtimestamp(request["begin"], zone)
        end = datetime.datetime.fromtimestamp(request["end"], zone)
        given = {
            kind: [
                (unit, Decimal(qty), Decimal(price), groupby, metadata)
                for unit, qty, price, groupby, metadata in points
            ]
            for kind, points in request["usage"].items()
        }
        usage, printed = given, Printed()
        sys.stdout = sys.stderr = printed
        for script in request["scripts"]:
            name = script["name"]
            key = (name, script["checksum"])
            try:
                if key not in compiled:
                    text = base64.b64decode(sources[key])
                    compiled[key] = compile(text, f"<PyScripts: {name}>", "exec")
                usage = run(compiled[key], usage, begin, end)
            except Nonsense as error:
                return {"failed": name, "error": str(error), "printed": printed.parts}
            except MemoryError:
                return {"failed": name, "error": "out of memory", "printed": printed.parts}
            except BaseException as error:
                lines = [
                    str(frame.lineno)
                    for frame in traceback.extract_tb(error.__traceback__)
                    if frame.filename == f"<PyScripts: {name}>"
                ]
                place = f" in line {lines[-1]}" if lines else ""
                if isinstance(error, SyntaxError):
                    place = f" in line {error.lineno}"
                told = f"{type(error).__name__}{place}: {error}"
                return {"failed": name, "error": told, "printed": printed.parts}
        # A point whose unit and labels are as they were is told by its numbers.
        # Those of the request were copied, so that they can be compared.
        result = {}
        for kind, points in usage.items():
            before = given.get(kind, ())
            if len(before) != len(points):
                before = ()
            result[kind] = [
                [str(qty), str(price)]
                if before
                and before[at][0] == unit
                and before[at][3] == groupby
                and before[at][4] == metadata
                and list(before[at][3]) == list(groupby)
                and list(before[at][4]) == list(metadata)
                else [str(qty), str(price), unit, groupby, metadata]
                for at, (unit, qty, price, groupby, metadata) in enumerate(points)
            ]
        return {"usage": result, "printed": printed.parts}

    sink.write(b"well")
    sink.flush()
    while True:
        head = source.read(4)
        if len(head) < 4:
            return
        request = json.loads(source.read(int.from_bytes(head, "big")))
        told = answer(request)
        try:
            text = json.dumps(told, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            told = {"failed": "", "error": f"a label cannot be kept: {error}", "printed": []}
            text = json.dumps(told)
        except MemoryError:
            told = {"failed": "", "error": "out of memory", "printed": []}
            text = json.dumps(told)
        body = text.encode()
        sink.write(len(body).to_bytes(4, "big") + body)
        sink.flush()


main()

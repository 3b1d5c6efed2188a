"""The worker of ratekitty's pyscripts module: runs scripts over dataframes.

It is started once. For each dataframe it forks a child, which runs the scripts,
answers through a pipe of its own and is killed. So nothing that a script does,
to Python, to files or to timers, is there for the next dataframe. The worker
itself never runs a script: it keeps their texts and passes answers on.

A request on standard input is a mark of 16 bytes, the lengths of two JSON texts
in four bytes each, big end first, and the texts: the scripts, and the dataframe.
What is told on standard output begins with the mark of its request; then come
a letter, a length in four bytes and as many bytes:

    s  a script begins: its place in the list, in four bytes
    a  the answer, a JSON text; nothing follows it
    e  the child ended without an answer: how

Before the first request the worker writes "well".

Arguments: bytes of memory, most digits of a number, and the seccomp filter of
the children in base64, or nothing.
"""

import sys


def main():
    import abc
    import base64
    import ctypes
    import datetime
    import decimal
    import gc
    import io
    import json
    import os
    import resource
    import select
    import signal
    import struct
    import time
    import types
    from decimal import Decimal

    memory, longest, rules = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    sys.argv = [""]
    longest_print, longest_error, chunk = 4096, 2000, 1 << 18
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))

    # The child gives up what the worker still needs: new processes, signals.
    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_void_p)]

    rules = base64.b64decode(rules)
    rules = ctypes.create_string_buffer(rules, len(rules))
    seccomp = Filter(len(rules) // 8, ctypes.addressof(rules))
    libc = ctypes.CDLL(None, use_errno=True)
    set_death_signal, set_dumpable, set_seccomp, filter_mode = 1, 4, 22, 2

    def check(result):
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def prctl(option, value, more=0):
        values = [ctypes.c_ulong(value) for value in (value, more, 0, 0)]
        check(libc.prctl(ctypes.c_int(option), *values))

    def lock(parent):
        """Binds this child to the life of its parent, and takes its rights."""
        prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if len(rules):
            prctl(set_seccomp, filter_mode, ctypes.addressof(seccomp))

    # Root or not, a child is not to reach this process or another one's children
    # by /proc: it has no capability, and they are not of those that may be
    # looked into. 0x20080522 is the version of what follows: three empty sets.
    check(libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)))
    prctl(set_dumpable, 0)
    # A worker whose children cannot be locked is of no use.
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            lock(parent)
            os._exit(0)
        except OSError as error:
            sys.stderr.write(f"Python scripts cannot be locked in: {error}\n")
            os._exit(1)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)

    # Scripts have standard streams of their own.
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)

    def stand_in():
        """A package of the name that scripts for CloudKitty import."""

        class RatingProcessorBase(metaclass=abc.ABCMeta):
            module_name = None
            description = None
            config_controller = None
            hot_config = False

            def __init__(self, tenant_id=None):
                self._tenant_id = tenant_id

            @abc.abstractmethod
            def process(self, data):
                """Puts prices into data."""

            @abc.abstractmethod
            def reload_config(self, start=None):
                """Reads rules again."""

            def quote(self, data):
                return self.process(data)

            def nodata(self, begin, end):
                return None

        class RatingRestControllerBase:
            pass

        package, rating = types.ModuleType("cloudkitty"), types.ModuleType("cloudkitty.rating")
        package.__path__, rating.__path__ = [], []
        package.rating = rating
        for kind in (RatingProcessorBase, RatingRestControllerBase):
            kind.__module__, kind.__qualname__ = rating.__name__, kind.__name__
            setattr(rating, kind.__name__, kind)
        sys.modules.update({package.__name__: package, rating.__name__: rating})

    stand_in()

    def plain(text):
        """A text without halves of characters, which JSON does not have."""
        return text.encode(errors="backslashreplace").decode()

    class Printed(io.TextIOBase):
        """Keeps the beginning of what is printed."""

        def __init__(self):
            self.parts, self.length = [], 0

        def writable(self):
            return True

        def write(self, text):
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            kept = text[: longest_print - self.length]
            if kept:
                self.parts.append(plain(kept))
                self.length += len(kept)
            return len(text)

    epoch, second = datetime.datetime(1970, 1, 1), datetime.timedelta(seconds=1)

    class Local(datetime.tzinfo):
        """The zone of this machine, with its changes of clocks."""

        def _instant(self, when):
            return int(when.replace(microsecond=0, tzinfo=None).timestamp())

        def utcoffset(self, when):
            if when is None:
                return None
            wall = when.replace(microsecond=0, tzinfo=None)
            return wall - epoch - self._instant(when) * second

        def dst(self, when):
            if when is None:
                return None
            is_dst = time.localtime(self._instant(when)).tm_isdst > 0
            return (time.timezone - time.altzone if is_dst else 0) * second

        def tzname(self, when):
            return None if when is None else time.localtime(self._instant(when)).tm_zone

        def fromutc(self, when):
            instant = (when.replace(microsecond=0, tzinfo=None) - epoch) // second
            wall = datetime.datetime.fromtimestamp(instant)
            return wall.replace(microsecond=when.microsecond, tzinfo=self)

        def __deepcopy__(self, memo):
            return self

        def __repr__(self):
            return "local time"

    def local(instant, offset):
        """An instant in local time, whose offset ratekitty knows to be this."""
        # Each date has a zone of its own, because Python takes the difference of
        # two dates of one zone from what the clock shows, not from the time gone.
        when = datetime.datetime.fromtimestamp(instant, Local())
        if when.utcoffset() != offset * second:
            # The description of the zone cannot be read from in here.
            when = datetime.datetime.fromtimestamp(instant, datetime.timezone(offset * second))
        return when

    class Nonsense(Exception):
        """What a script left behind is no dataframe."""

    def shown(value):
        text = repr(value)
        return text if len(text) <= 80 else text[:80] + "..."

    def context(digits, traps):
        """Python's default context, but for the digits and the traps."""
        half_even, largest = decimal.ROUND_HALF_EVEN, 999999
        return decimal.Context(digits, half_even, -largest, largest, 1, 0, [], traps)

    # What each script begins with, and as long as ratekitty's numbers can be.
    default = context(28, [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow])
    widest = context(longest, [])

    def number(value, what):
        if isinstance(value, Decimal):
            result = value
        elif isinstance(value, bool):
            raise Nonsense(f"{what} is {value!r}, not a number")
        elif isinstance(value, (int, str)):
            try:
                result = Decimal(value)
            except decimal.InvalidOperation:
                raise Nonsense(f"{what} is {shown(value)}, not a number") from None
        elif isinstance(value, float):
            result = Decimal(str(value))
        else:
            raise Nonsense(f"{what} is {shown(value)}, not a number")
        if not result.is_finite():
            raise Nonsense(f"{what} is {shown(value)}, which cannot be billed")
        return result

    def text_of(value):
        text = str(value)
        if len(text) > longest and len(value.as_tuple().digits) > longest:
            text = str(widest.plus(value))
        return text

    def labels(value, what):
        if type(value) is not dict:
            if not isinstance(value, dict):
                raise Nonsense(f"{what} is no dict: {shown(value)}")
            value = dict(value)
        for name in value:
            if type(name) is not str:
                raise Nonsense(f"a name in {what} is no text: {shown(name)}")
        return value

    point_keys = frozenset(("vol", "rating", "groupby", "metadata"))

    def point(value):
        """A point that a script left behind, as (unit, quantity, price, groupby, metadata)."""
        if not isinstance(value, dict):
            raise Nonsense(f"it is no dict: {shown(value)}")
        if not point_keys.issuperset(value):
            raise Nonsense("it has keys beside vol, rating, groupby and metadata")
        try:
            vol, groupby, metadata = value["vol"], value["groupby"], value["metadata"]
        except KeyError as error:
            raise Nonsense(f"it has no {error}") from None
        rating = value.get("rating", {"price": 0})
        if not isinstance(vol, dict) or set(vol) != {"unit", "qty"}:
            raise Nonsense(f"vol is not unit and qty: {shown(vol)}")
        if not isinstance(rating, dict) or set(rating) - {"price"}:
            raise Nonsense(f"rating is not price: {shown(rating)}")
        unit = vol["unit"]
        if not isinstance(unit, str):
            raise Nonsense(f"unit is no text: {shown(unit)}")
        return (
            unit or "undefined",
            number(vol["qty"], "the quantity"),
            number(rating.get("price", 0), "the price"),
            labels(groupby, "groupby"),
            labels(metadata, "metadata"),
        )

    def is_instant(value, instant):
        return (
            isinstance(value, datetime.datetime)
            and value.tzinfo is not None
            and value.timestamp() == instant.timestamp()
        )

    def run(code, usage, begin, end):
        """Runs a script; gives what it left behind, and how many points that is."""
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
        variables = {"data": data}
        decimal.setcontext(default.copy())
        # The points are not to be looked through whenever the script makes objects.
        gc.freeze()
        gc.enable()
        exec(code, variables)
        gc.disable()
        decimal.setcontext(default.copy())
        data = variables.get("data")
        if not isinstance(data, dict) or set(data) != {"period", "usage"}:
            raise Nonsense("data is not a dict of period and usage any more")
        period = data["period"]
        if (
            not isinstance(period, dict)
            or set(period) != {"begin", "end"}
            or not is_instant(period["begin"], begin)
            or not is_instant(period["end"], end)
        ):
            raise Nonsense("the period was changed")
        if not isinstance(data["usage"], dict):
            raise Nonsense("usage is no dict any more")
        result, count = {}, 0
        for kind, points in data["usage"].items():
            if not isinstance(kind, str):
                raise Nonsense(f"a type of data points is no text: {shown(kind)}")
            if not isinstance(points, (list, tuple)):
                raise Nonsense(f"the points of type {kind!r} are no list")
            count += len(points)
        for kind in sorted(data["usage"]):
            result[kind] = done = []
            try:
                for value in data["usage"][kind]:
                    done.append(point(value))
            except Nonsense as error:
                place = f"data['usage'][{kind!r}][{len(done)}]"
                raise Nonsense(f"{place}: {error}") from None
        return result, count

    sources, compiled = {}, {}

    def compile_script(name, key):
        return compile(sources[key], f"<PyScripts: {name}>", "exec", dont_inherit=True)

    def failure(name, error):
        """Why a script failed, for people."""
        file = f"<PyScripts: {name}>"
        if isinstance(error, Nonsense):
            return str(error)
        if isinstance(error, MemoryError):
            return "out of memory"
        place, step = "", error.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename == file:
                place = f" in line {step.tb_lineno}"
            step = step.tb_next
        if isinstance(error, SyntaxError) and error.filename == file:
            place = f" in line {error.lineno}"
        return f"{type(error).__name__}{place}: {error}"

    def answer(names, codes, request, tell):
        """What the scripts make of a dataframe, or why they do not."""
        given = {
            kind: [
                (unit, Decimal(qty), Decimal(price), groupby, metadata)
                for unit, qty, price, groupby, metadata in points
            ]
            for kind, points in request["usage"].items()
        }
        begin = local(request["begin"], request["begin_offset"])
        end = local(request["end"], request["end_offset"])
        usage, count = given, sum(map(len, given.values()))
        for at, (name, code) in enumerate(zip(names, codes)):
            tell(b"s", at.to_bytes(4, "big"))
            try:
                if isinstance(code, BaseException):
                    raise code
                usage, count = run(code, usage, begin, end)
            except BaseException as error:
                try:
                    told = failure(name, error)
                except BaseException:
                    told = f"{type(error).__name__}, and it cannot be told"
                return {"failed": name, "error": plain(told[:longest_error])}
        # A point whose unit and labels are as they were is told by its numbers.
        # Those of the request were copied, so that they can be compared, unless
        # there are lists and the like in them, which scripts can change in place.
        result, known = {}, given if request["is_flat"] else {}
        for kind, points in usage.items():
            before = known.get(kind, ())
            if len(before) != len(points):
                before = ()
            result[kind] = [
                [text_of(qty), text_of(price)]
                if before
                and before[at][0] == unit
                and before[at][3] == groupby
                and before[at][4] == metadata
                and list(before[at][3]) == list(groupby)
                and list(before[at][4]) == list(metadata)
                else [text_of(qty), text_of(price), unit, groupby, metadata]
                for at, (unit, qty, price, groupby, metadata) in enumerate(points)
            ]
        return {"usage": result, "count": count}

    def be_child(pipe, scripts, body):
        """Runs the scripts and answers; what happens in here ends with it."""
        lock(parent)
        gc.disable()
        write = os.write

        def tell(kind, body):
            for text in (kind + len(body).to_bytes(4, "big"), body):
                text = memoryview(text)
                while text:
                    text = text[write(pipe, text) :]

        printed = Printed()
        sys.stdout = sys.stderr = printed
        names, codes = [], []
        for script in scripts:
            name = script["name"]
            key = (name, script["checksum"])
            code = compiled.get(key)
            if code is None:
                try:
                    code = compile_script(name, key)
                except BaseException as error:
                    code = error
            names.append(name)
            codes.append(code)
        # No script has run yet, so that this cannot be one's word.
        if not any(isinstance(code, BaseException) for code in codes):
            tell(b"c", b"")
        told = answer(names, codes, json.loads(body), tell)
        told["printed"] = printed.parts
        try:
            text = json.dumps(told, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            text = text.encode()
        except (TypeError, ValueError, RecursionError, MemoryError) as error:
            problem = f"a label cannot be kept: {error}"
            if isinstance(error, MemoryError):
                problem = "out of memory"
            told = {"failed": "`, `".join(names), "error": plain(problem[:longest_error])}
            text = json.dumps(told).encode()
        tell(b"a", text)

    stream = io.FileIO(source, closefd=False)

    def read(count):
        """Reads so much of what ratekitty says; ends with it."""
        text = bytearray(count)
        view, at = memoryview(text), 0
        while at < count:
            got = stream.readinto(view[at:])
            if not got:
                os._exit(0)
            at += got
        return text

    def write(text):
        text = memoryview(text)
        while text:
            text = text[os.write(sink, text) :]

    def pass_on(mark, child, pipe):
        """Passes on what a child tells; whether all its scripts could be compiled."""
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        # Only that it is closed: ratekitty says nothing now.
        waiting.register(source, 0)

        def take(count):
            """The next bytes, at most so many; none when the child has ended."""
            while True:
                ready = dict(waiting.poll())
                if source in ready:
                    os._exit(0)
                if pipe in ready:
                    return os.read(pipe, count)

        is_compiled = False
        while True:
            head = b""
            while len(head) < 5:
                text = take(5 - len(head))
                if not text:
                    status = os.waitpid(child, 0)[1]
                    how = f"exit status: {os.WEXITSTATUS(status)}"
                    if os.WIFSIGNALED(status):
                        how = f"signal: {os.WTERMSIG(status)}"
                    write(mark + b"e" + len(how).to_bytes(4, "big") + how.encode())
                    return False
                head += text
            kind, left = head[:1], int.from_bytes(head[1:], "big")
            if kind == b"c":
                is_compiled = True
                continue
            write(mark + head)
            while left:
                text = take(min(left, chunk))
                if not text:
                    # ratekitty waits for the rest: it is told by the end of this worker.
                    os._exit(1)
                write(text)
                left -= len(text)
            if kind == b"a":
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return is_compiled

    gc.collect()
    write(b"well")
    while True:
        mark, lengths = read(16), read(8)
        scripts = json.loads(read(int.from_bytes(lengths[:4], "big")))
        body = read(int.from_bytes(lengths[4:], "big"))
        keys = [(script["name"], script["checksum"]) for script in scripts]
        for key, script in zip(keys, scripts):
            if "data" in script:
                sources[key] = base64.b64decode(script["data"])
        # ratekitty sends the others again when they are wanted again.
        for known in (sources, compiled):
            for key in set(known) - set(keys):
                del known[key]
        gc.freeze()
        pipe, own = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for file in (source, sink, pipe):
                    os.close(file)
                be_child(own, scripts, body)
            finally:
                os._exit(1)
        os.close(own)
        del body
        is_compiled = pass_on(mark, child, pipe)
        os.close(pipe)
        # A child could, before it ran any, so it does no harm here; the next ones
        # need not. If it was a script that said so, they see what is wrong with it.
        for key in keys if is_compiled else ():
            if key not in compiled:
                try:
                    compiled[key] = compile_script(key[0], key)
                except BaseException:
                    break


main()

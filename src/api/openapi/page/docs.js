// Shows /openapi.json: operations by part of the API, with arguments, bodies and
// answers; GET requests can be tried. Everything is put in as text, never as HTML.
"use strict";

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Schemas by name.
let schemas = {};

function nameOf(schema) {
  return schema.$ref.split("/").pop();
}

// One line that says what a schema holds.
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) {
    const named = schemas[nameOf(schema)];
    return named && named.oneOf ? kind(named) : nameOf(schema);
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" or ");
  if (schema.type === "array") return "list of " + kind(schema.items);
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "anything";
  return schema.format ? type + " (" + schema.format + ")" : type;
}

// A schema as an example would look, with the kinds in place of values.
function outline(schema, depth) {
  if (!schema || depth > 6) return "…";
  const named = schema.$ref && schemas[nameOf(schema)];
  if (named && (named.properties || named.items || (named.anyOf || [{}])[0].$ref)) {
    return outline(named, depth);
  }
  // Of several forms, the first.
  if (schema.anyOf && schema.anyOf[0].$ref) return outline(schema.anyOf[0], depth + 1);
  if (schema.type === "array") return [outline(schema.items, depth + 1)];
  if (schema.properties) {
    const needed = schema.required || [];
    return Object.fromEntries(Object.entries(schema.properties).map(([name, value]) =>
      [needed.includes(name) ? name : name + " (optional)", outline(value, depth + 1)]));
  }
  return kind(schema);
}

function content(holder) {
  const json = holder && holder.content && holder.content["application/json"];
  return json ? json.schema : null;
}

function parameters(operation) {
  const table = element("table");
  const inputs = [];
  for (const parameter of operation.parameters || []) {
    const input = element("input", { "aria-label": parameter.name });
    inputs.push([parameter, input]);
    const name = element("code", {}, parameter.name);
    const where = parameter.in + (parameter.required ? ", needed" : "");
    table.append(element("tr", {}, element("td", {}, name), element("td", {}, where),
      element("td", {}, kind(parameter.schema)), element("td", {}, input)));
  }
  return [table, inputs];
}

function tryIt(path, inputs) {
  const shown = element("pre", { hidden: "" });
  const button = element("button", { type: "button" }, "Try");
  button.addEventListener("click", async () => {
    let url = path;
    const query = new URLSearchParams();
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") {
        url = url.replace("{" + parameter.name + "}", encodeURIComponent(input.value));
      } else if (input.value) {
        query.append(parameter.name, input.value);
      }
    }
    const token = document.getElementById("token").value;
    const headers = token ? { "X-Auth-Token": token } : {};
    const asked = "." + url + (query.size ? "?" + query : "");
    shown.hidden = false;
    try {
      const answer = await fetch(asked, { headers, redirect: "manual" });
      const text = await answer.text();
      let pretty = text;
      try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is no JSON */ }
      shown.textContent = "GET " + asked + "\n" + answer.status + "\n\n" + pretty;
    } catch (error) {
      shown.textContent = "GET " + asked + "\n" + error;
    }
  });
  return [button, shown];
}

function show(path, method, operation) {
  const details = element("details", { id: operation.operationId });
  details.dataset.words = (method + " " + path + " " + operation.summary).toLowerCase();
  details.append(element("summary", {}, element("span", { class: "method " + method }, method),
    element("code", {}, path), element("span", { class: "what" }, operation.summary)));
  // Made when it is first looked at.
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const [table, inputs] = parameters(operation);
    details.append(table);
    const body = content(operation.requestBody);
    if (body) {
      details.append(element("h3", {}, "Body"),
        element("pre", {}, JSON.stringify(outline(body, 0), null, 2)));
    }
    for (const [status, answer] of Object.entries(operation.responses)) {
      details.append(element("h3", {}, status + ": " + answer.description));
      const schema = content(answer);
      if (schema && status < 300) {
        details.append(element("pre", {}, JSON.stringify(outline(schema, 0), null, 2)));
      }
    }
    if (method === "get") details.append(...tryIt(path, inputs));
  });
  return details;
}

async function main() {
  const answer = await fetch("openapi.json");
  const description = await answer.json();
  schemas = description.components.schemas;
  document.getElementById("about").textContent =
    description.info.summary + ". " + description.info.description;
  const parts = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const part = operation.tags[0];
      if (!parts.has(part)) parts.set(part, []);
      parts.get(part).push(show(path, method, operation));
    }
  }
  const main = document.getElementById("operations");
  for (const [part, operations] of parts) {
    main.append(element("section", {}, element("h2", {}, part), ...operations));
  }
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const section of main.children) {
      let isShown = false;
      for (const details of section.querySelectorAll("details")) {
        details.hidden = !words.every((word) => details.dataset.words.includes(word));
        isShown = isShown || !details.hidden;
      }
      section.hidden = !isShown;
    }
  });
}

main().catch((error) => {
  document.getElementById("about").textContent = "The description cannot be read: " + error;
});

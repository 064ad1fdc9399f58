// Varve's HTTP API, which is Prometheus'.

import { request } from "./login.js";

export class QueryFailure extends Error {
  // position: {start, end} in UTF-8 bytes, or undefined. passing: the service was away or busy, so that
  // the same question may be answered later.
  constructor(text, { position, passing = false } = {}) {
    super(text);
    this.position = position;
    this.passing = passing;
  }
}

// The whole answer: data, warnings, infos, provenance; and how long it took.
export async function ask(path, parameters, signal) {
  const began = performance.now();
  let response;
  try {
    response = await request(`api/v1/${path}`, {
      method: "POST",
      body: new URLSearchParams(parameters),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new QueryFailure("The query service does not answer. Is `varve up` still running?", { passing: true });
  }
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    // A proxy that speaks for a service that is away, or an answer that was cut.
    throw new QueryFailure(`HTTP ${response.status} without an answer of the query service.`, { passing: true });
  });
  if (answer.status !== "success") {
    throw new QueryFailure(answer.error, { position: answer.position, passing: response.status >= 500 });
  }
  return { ...answer, milliseconds: performance.now() - began };
}

// Metric names for completion; none if they cannot be had.
export async function metricNames() {
  try {
    const response = await request("api/v1/label/__name__/values");
    return response.ok ? (await response.json()).data : [];
  } catch {
    return [];
  }
}

// The metrics seen in a span, {start, end} in Unix seconds: {name, type, unit, help}, by name; none if they cannot
// be had.
export async function metrics(span) {
  try {
    const addresses = [`api/v1/label/__name__/values?${new URLSearchParams(span)}`, "api/v1/metadata"];
    const [names, said] = await Promise.all(
      addresses.map(async (address) => (await (await request(address)).json()).data),
    );
    const unknown = { type: "", unit: "", help: "" };
    return names.map((name) => ({ name, ...unknown, ...said[name]?.[0] }));
  } catch {
    return [];
  }
}

// What the stored bytes are spent on; an Error with the reason if it cannot be had.
export async function storageUsage() {
  const answer = await (await request("api/v1/status/usage")).json();
  if (answer.status !== "success") throw new Error(answer.error);
  return answer.data;
}

// What runs beside the service: {state, components: [{name, state, note}]}, or null if it cannot be had.
export async function homeCondition() {
  try {
    const response = await request("-/components");
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

// "" when ready, else why not.
export async function whyNotReady() {
  const response = await request("-/ready");
  return response.ok ? "" : (await response.text()).trim();
}

// From UTF-8 bytes, as the server counts, to the characters of a string.
export function characterSpan(text, position) {
  const bytes = new TextEncoder().encode(text);
  const decode = (end) => new TextDecoder().decode(bytes.slice(0, end)).length;
  const start = Math.min(decode(position.start), text.length);
  return { start, end: Math.max(decode(position.end), start + 1) };
}

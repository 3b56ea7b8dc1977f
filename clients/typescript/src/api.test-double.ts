// An API that gives the answers of a test, and records the requests.

import type { Problem } from "./client.js";

export interface Request {
  method: string;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  body: unknown;
}

export type Answer = { status?: number; body: unknown; headers?: Record<string, string> } | Error;

/** More than any test needs: without an end, a test would not fail but hang. */
const MANY = 100;

export class FakeApi {
  readonly requests: Request[] = [];
  readonly pauses: number[] = [];

  /** Calls `answer` for each request; the last argument counts them from 0. A promise is a late answer. */
  constructor(private readonly answer: (request: Request, number: number) => Answer | Promise<Answer>) {}

  readonly fetch: typeof fetch = async (input, settings) => {
    settings?.signal?.throwIfAborted();
    const url = new URL(String(input));
    const request = {
      method: settings?.method ?? "GET",
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: Object.fromEntries(new Headers(settings?.headers)),
      body: settings?.body ? JSON.parse(String(settings.body)) : undefined,
    };
    if (this.requests.push(request) > MANY) throw new Error("it asks for ever");
    const answer = await this.answer(request, this.requests.length - 1);
    if (answer instanceof Error) throw answer;
    return new Response(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body), {
      status: answer.status ?? 200,
      headers: { "Content-Type": "application/json", ...answer.headers },
    });
  };

  readonly sleep = async (milliseconds: number) => {
    if (this.pauses.push(milliseconds) > MANY) throw new Error("it waits for ever");
  };
}

export function problem(status: number, code: string, more: Partial<Problem> = {}): Problem {
  const type = `urn:credits:problem:${code}`;
  return { type, title: `Of ${code}`, status, code, detail: "because", errors: [], request_id: "r-1", ...more };
}

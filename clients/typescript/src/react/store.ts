// What the components of one client share, so that they agree: which credits are being used, and when to ask again.

import type { CreditsClient } from "../client.js";
import type { Spending } from "./Spending.js";

/** Credits that a use takes, and that data from before it still include. */
interface Debit {
  key: string;
  amount: number;
  /** Whether it is on its way: nobody knows whether an answer includes it. */
  isSent: boolean;
  /** From this version on, read data no longer include them; null while that is not known. */
  usedAt: number | null;
}

interface Reading {
  version: number;
  answer: Promise<unknown>;
  leaving: AbortController;
  waiting: number;
}

/** Immutable: a new one replaces it. */
export interface Shared {
  /** Grows whenever read data may be out of date. */
  version: number;
  debits: readonly Debit[];
}

export class CreditsStore {
  state: Shared = { version: 0, debits: [] };
  readonly #listeners = new Set<() => void>();
  readonly #readings = new Map<string, Reading>();
  readonly #abandoned = new Map<string, Spending[]>();

  constructor(private readonly client: CreditsClient) {}

  readonly subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** Makes every component reload; while a use is on its way, after it has ended. */
  readonly refresh = () => {
    if (this.state.debits.some(({ isSent, usedAt }) => isSent && usedAt === null)) return;
    this.#become({ ...this.state, version: this.state.version + 1 });
  };

  // --- Uses ------------------------------------------------------------------------------------------

  /** Counts credits as used before the API has said so. A key counts once, whichever component sends it. */
  expect(key: string, amount: number, isSent: boolean): void {
    const { debits } = this.state;
    if (debits.some((debit) => debit.key === key && debit.usedAt !== null)) return;
    this.#become({ ...this.state, debits: [...debits.filter((debit) => debit.key !== key), { key, amount, isSent, usedAt: null }] });
  }

  /** The API has said so: data read from now on include it, too. */
  used(key: string): void {
    const version = this.state.version + 1;
    this.#become({ version, debits: this.state.debits.map((debit) => (debit.key === key ? { ...debit, usedAt: version } : debit)) });
  }

  /** The API has not said so: only its balance counts. */
  forget(key: string): void {
    this.#become({ version: this.state.version + 1, debits: this.state.debits.filter((debit) => debit.key !== key) });
  }

  // --- Uses whose button was removed ----------------------------------------------------------------------

  abandon(spending: Spending): void {
    this.#abandoned.set(spending.purpose, [...(this.#abandoned.get(spending.purpose) ?? []), spending]);
  }

  /** A use for this purpose without an outcome yet; the first caller gets it. */
  adopt(purpose: string): Spending | undefined {
    const open = (this.#abandoned.get(purpose) ?? []).filter(({ isOpen }) => isOpen);
    this.#abandoned.set(purpose, open.slice(1));
    return open[0];
  }

  // --- Reading ---------------------------------------------------------------------------------------

  readonly schedule = (signal: AbortSignal) => this.#together("schedule", (leaving) => this.client.schedule(undefined, leaving), signal);
  readonly balance = (signal: AbortSignal) => this.#together("balance", (leaving) => this.client.balance(undefined, leaving), signal);
  readonly forecast = (signal: AbortSignal) => this.#together("forecast", (leaving) => this.client.forecast(undefined, leaving), signal);

  /** Components that need the same at the same time send one request. It is aborted when none of them waits any more. */
  #together<Value>(name: string, read: (signal: AbortSignal) => Promise<Value>, signal: AbortSignal): Promise<Value> {
    const { version } = this.state;
    let reading = this.#readings.get(name);
    if (!reading || reading.version !== version) {
      const leaving = new AbortController();
      reading = { version, answer: read(leaving.signal), leaving, waiting: 0 };
      this.#readings.set(name, reading);
    }
    const shared = reading;
    const end = () => this.#readings.get(name) === shared && this.#readings.delete(name);
    shared.answer.then(end, end);
    shared.waiting += 1;
    signal.addEventListener("abort", () => {
      shared.waiting -= 1;
      if (shared.waiting > 0) return;
      end();
      shared.leaving.abort();
    });
    return shared.answer as Promise<Value>;
  }

  #become(state: Shared): void {
    this.state = state;
    for (const listener of this.#listeners) listener();
  }
}

const STORES = new WeakMap<CreditsClient, CreditsStore>();

/** The store of a client: one as long as the client exists. */
export function storeOf(client: CreditsClient): CreditsStore {
  const store = STORES.get(client) ?? new CreditsStore(client);
  STORES.set(client, store);
  return store;
}

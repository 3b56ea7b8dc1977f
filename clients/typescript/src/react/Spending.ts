// One use of credits, from the click to its outcome. It outlives the button: a sent request is followed to its end.
//
// It promises: however often a user clicks, tries again, leaves or comes back, the credits are used once, and
// `onSpent` is called once for them.

import { CreditsError, type UseAnswer, type UseRequest } from "../client.js";
import type { CreditsStore } from "./store.js";

export type SpendStatus =
  /** Nothing was requested, or it was undone before it was sent. */
  | "idle"
  /** It can still be undone: nothing has been sent. */
  | "waiting"
  | "sending"
  | "spent"
  | "undoing"
  | "undone"
  /** The API says that nothing was used. */
  | "refused"
  /** Nobody knows whether it was done: the same key again is safe. */
  | "unanswered";

export interface SpendState {
  status: SpendStatus;
  /** Whether `undo` does something. */
  canUndo: boolean;
  /** The answer to the use; still there when it was undone. */
  answer: UseAnswer | null;
  /** Why it was refused, was not answered, or could not be undone. */
  error: unknown;
}

export const IDLE: SpendState = { status: "idle", canUndo: false, answer: null, error: null };

export type SpendRequest = Pick<UseRequest, "amount" | "description" | "metadata">;

export interface SpendOptions {
  /** How many credits, and for what. */
  amount: number;
  description: string;
  metadata?: UseRequest["metadata"];
  /**
   * Names what is paid for, such as an order: it is paid for once, in all tabs and for ever. Without a key each
   * answered click is one use.
   */
  idempotencyKey?: string | undefined;
  /** For how many seconds it can be undone; 0 means never. The default is 5. */
  undoSeconds?: number | undefined;
  /** Sends it; the default is the client's `use`. For backends that hold or use credits themselves, under this key. */
  spend?: ((request: SpendRequest, key: string) => Promise<UseAnswer>) | undefined;
  /**
   * Gives back what was used, by your backend, which may reverse a use. With it, credits are used at once. Without it,
   * nothing is sent before the time to undo is over, because a user's own token cannot reverse a use.
   */
  undo?: ((answer: UseAnswer, key: string) => Promise<unknown>) | undefined;
  /** Credits were used: do what was paid for. Called once, even if the button has been removed meanwhile. */
  onSpent?: ((answer: UseAnswer) => void) | undefined;
  /** The credits were given back: undo what `onSpent` did. */
  onUndone?: ((answer: UseAnswer) => void) | undefined;
}

const DEFAULT_UNDO_SECONDS = 5;

/** Statuses after which an earlier attempt, whose answer was lost, may still have been carried out. */
const UNCERTAIN = new Set([401, 409, 429, 500, 502, 503, 504]);

const isRefusal = (error: unknown) => error instanceof CreditsError && !UNCERTAIN.has(error.status);

/** Equal for two uses for the same purpose. */
export const purposeOf = ({ idempotencyKey, amount, description, metadata }: SpendOptions): string =>
  idempotencyKey ?? JSON.stringify([amount, description, metadata ?? null]);

export class Spending {
  state = IDLE;
  readonly purpose: string;
  readonly key: string;
  readonly #request: SpendRequest;
  readonly #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isLeft = false;

  constructor(
    private readonly store: CreditsStore,
    private readonly use: (request: SpendRequest, key: string) => Promise<UseAnswer>,
    /** The options of its present button: they may change between two renderings. */
    private options: () => SpendOptions,
  ) {
    const { amount, description, metadata, idempotencyKey } = options();
    this.purpose = purposeOf(options());
    this.key = idempotencyKey ?? crypto.randomUUID();
    this.#request = { amount, description, ...(metadata && { metadata }) };
  }

  readonly subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly get = () => this.state;

  get amount(): number {
    return this.#request.amount;
  }

  /** Whether it is under way, so that another click must be ignored. */
  get isBusy(): boolean {
    return ["waiting", "sending", "undoing"].includes(this.state.status);
  }

  /** Whether it may have been sent, and has not been answered. */
  get isOpen(): boolean {
    return ["sending", "unanswered"].includes(this.state.status);
  }

  /** Begins, or begins again, with the same key. */
  start(): void {
    const { undo } = this.options();
    const seconds = this.#undoSeconds;
    // A request that may have been sent cannot be undone by not sending it.
    if (undo || seconds === 0 || this.state.status === "unanswered") return void this.#send();
    this.store.expect(this.key, this.amount, false);
    this.#become({ ...IDLE, status: "waiting", canUndo: true });
    this.#timer = setTimeout(() => void this.#send(), seconds * 1000);
  }

  /** Undoes it, if that is still possible. */
  undo(): void {
    clearTimeout(this.#timer);
    if (this.state.status === "waiting") {
      this.store.forget(this.key);
      this.#become({ ...IDLE, status: "undone" });
    } else if (this.state.canUndo) void this.#giveBack();
  }

  /** The button was removed. An unsent request is dropped; a sent one can be found again. */
  leave(): void {
    this.#isLeft = true;
    clearTimeout(this.#timer);
    if (this.state.status === "waiting") this.undo();
    if (this.isOpen) this.store.abandon(this);
  }

  /** Another button takes over. */
  join(options: () => SpendOptions): void {
    this.options = options;
    this.#isLeft = false;
    if (this.state.status === "unanswered") this.start();
  }

  get #undoSeconds(): number {
    return this.options().undoSeconds ?? DEFAULT_UNDO_SECONDS;
  }

  async #send(): Promise<void> {
    this.store.expect(this.key, this.amount, true);
    this.#become({ ...IDLE, status: "sending" });
    let answer: UseAnswer;
    try {
      answer = await (this.options().spend ?? this.use)(this.#request, this.key);
    } catch (error) {
      this.store.forget(this.key);
      return this.#become({ ...IDLE, status: isRefusal(error) ? "refused" : "unanswered", error });
    }
    this.store.used(this.key);
    const { undo, onSpent } = this.options();
    const canUndo = !!undo && this.#undoSeconds > 0 && !this.#isLeft;
    this.#become({ status: "spent", canUndo, answer, error: null });
    if (canUndo) this.#timer = setTimeout(() => this.#become({ ...this.state, canUndo: false }), this.#undoSeconds * 1000);
    onSpent?.(answer);
  }

  async #giveBack(): Promise<void> {
    const answer = this.state.answer as UseAnswer;
    const { undo, onUndone } = this.options();
    this.#become({ status: "undoing", canUndo: false, answer, error: null });
    try {
      await undo?.(answer, this.key);
    } catch (error) {
      // It may have been done. Undoing it again gives it back only once.
      return this.#become({ status: "spent", canUndo: true, answer, error });
    } finally {
      this.store.refresh();
    }
    this.#become({ status: "undone", canUndo: false, answer, error: null });
    onUndone?.(answer);
  }

  #become(state: SpendState): void {
    this.state = state;
    for (const listener of this.#listeners) listener();
  }
}

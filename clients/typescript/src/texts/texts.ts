// The parts of a translation of the components.

import type { AllocationSchedule, ProblemCode, TransactionType } from "../client.js";

/** Why no credits will come, as a code. */
export type ReasonCode = NonNullable<AllocationSchedule["not_allocated_because"]>["code"];

/** A sentence with gaps such as `{amount}`; or one for each form of the plural that the language has. */
export type Text = string | ({ other: string } & Partial<Record<Intl.LDMLPluralRule, string>>);

/** All words of the components. Whole sentences: their order belongs to the language. */
export interface Texts {
  /** The language, whose rules of plurals choose among the forms. */
  language: string;

  // The card
  yourCredits: string;
  loading: string;
  /** `{amount}` can be used now. */
  available: Text;
  /** `{amount}` is set aside for a job until `{time}`. */
  reserved: Text;
  nextCredits: string;
  /** `{amount}` comes on `{date}`; `{countdown}` is one of the three texts below. */
  next: Text;
  /** The same, for a plan that fills up to `{cap}`. */
  nextUpTo: Text;
  inTime: string;
  /** The plural is that of `{days}`. */
  inDaysAndTime: Text;
  anyMoment: string;
  noNext: string;
  noNextBecause: string;
  /** By code; without a text for a code, the API's own words. */
  reasons: Partial<Record<ReasonCode, string>>;
  whatExpires: string;
  /** `{date}` is the last day. */
  usableThrough: Text;
  neverExpire: Text;
  noCredits: string;
  howLongTheyLast: string;
  /** At the rate of the last `{days}` they run out on `{date}`, which is the first day that is not covered. The plural is that of `{days}`. */
  runOut: Text;
  /** The same, if they do not run out until `{date}`, the end of the forecast. */
  lastAtLeast: Text;
  /** At that rate `{amount}` is left of what expires next; `{date}` is the last day. */
  expireUnused: Text;

  // The history
  history: string;
  show: string;
  everything: string;
  types: Record<TransactionType, string>;
  /** What the system does by itself, in place of the API's description; `{month}` is that of an allocation. */
  described: Partial<Record<TransactionType, string>>;
  amountReserved: Text;
  amountFree: Text;
  leftOut: Text;
  balanceAfter: Text;
  nothingYet: string;
  showOlder: string;
  linesShown: Text;

  // The spend button
  price: Text;
  use: Text;
  undo: string;
  waiting: Text;
  sending: Text;
  spent: Text;
  undoing: Text;
  nothingUsed: string;
  undone: string;
  notUndone: string;
  /** `{amount}` was requested, and `{available}` is available. */
  insufficient: Text;
  unanswered: string;
  unansweredSignedOut: string;
  /** By code; without a text for a code, the API's `detail`. */
  problems: Partial<Record<ProblemCode, string>>;

  // Trouble of all kinds
  signedOut: string;
  cannotBeShown: string;
  tryAgain: string;
}

// Verifies a statement of credits: whether its entries are unaltered, and obey the rules.
//
// It trusts nobody and needs no network and no dependencies, in a browser or in Node. From the lines alone it
// recomputes each hash and each state, and checks the rules of each type of entry. Its twin in Python is
// `credits_client.verify_statement`; the test vectors in vectors.json check both. docs/statements.md has the format.

const FORMAT = "credits-statement-1";
const ERASED = "(erased)";
const MOST_ITEMS = 90;
const LONGEST_HOLD = 30 * 24 * 60 * 60 * 1000;
const TYPES = "allocation expiration usage manual reversal hold release purchase refund".split(" ");
const SOURCES = [null, "plan", "purchase", "promotion", "adjustment", "carried_over"];
const NAMES =
  "schema number type amount balance batches legs through operation description actor effective posted zone".split(" ");
const NAMES_OF_FORM_3 =
  "holds hold released including_held metadata items price refund left_out balance_cap sign_up topped_up".split(" ");

/** The first mistake; `line` is the number of the entry, null for the statement itself. */
class Wrong extends Error {
  constructor(problem, line = null) {
    super(problem);
    this.line = line;
  }
}

/**
 * Checks a statement; all pages, one after the other.
 *
 * `witnesses`: texts, such as whole emails, that say the number and the first twelve or more digits of the hash of
 * entries, `15:ab12cd34ef56`. Only they show that the end was not cut off or rewritten.
 */
export async function verifyStatement(text, witnesses = []) {
  const walk = new Walk(witnessed(witnesses));
  try {
    let place = 0;
    for (const line of text.split("\n")) {
      place += 1;
      if (/[^ \t\r]/.test(line)) await walk.take(place, line);
    }
    walk.finish();
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    return walk.found(error);
  }
  return walk.found(null);
}

function witnessed(texts) {
  const found = new Map();
  for (const text of texts) {
    const named = [...text.matchAll(/(?<![0-9])([0-9]{1,12}):([0-9a-f]{12,64})(?![0-9a-f])/g)];
    if (!named.length) throw new RangeError("a witness must say a number and 12 digits, such as 15:ab12cd34ef56");
    for (const [, number, digits] of named) found.set(+number, [...(found.get(+number) ?? []), digits]);
  }
  return found;
}

// --- Reading -------------------------------------------------------------------------------------------------------

function must(isSo) {
  if (!isSo) throw new TypeError("it is of another form");
}

function whole(value) {
  must(Number.isSafeInteger(value));
  return value;
}

function texts(...values) {
  must(values.every((value) => typeof value === "string"));
}

function instant(value) {
  must(whole(value) >= -86_400_000 && value < 32_503_766_400_000);
  return value;
}

const orNull = (read, value) => (value === null ? null : read(value));

function object(text) {
  const values = JSON.parse(text);
  must(typeof values === "object" && values !== null && !Array.isArray(values));
  return values;
}

/** The entry of a body, which must be in canonical form. */
function entryOf(number, body) {
  let entry;
  let isCanonical;
  try {
    const values = object(body);
    entry = read(values);
    isCanonical = canonical(values, Object.keys(values)) === body;
  } catch {
    isCanonical = false;
  }
  if (!isCanonical) throw new Wrong("the body is not in its canonical form", number);
  if (entry.number !== number) throw new Wrong(`the body says number ${entry.number}`, number);
  return entry;
}

/** The canonical text of a value. JSON.parse puts keys that are numbers first: those of metadata are sorted as texts. */
function canonical(value, keys = null) {
  if (Array.isArray(value)) return `[${value.map((each) => canonical(each)).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const names = keys ?? Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join()}}`;
}

function read(values) {
  const has = (name) => Object.hasOwn(values, name);
  const { schema } = values;
  must(whole(schema) >= 1 && schema <= 3);
  const named = [...NAMES, "silent", ...(schema >= 2 ? ["correlation"] : []), "usage"];
  if (schema >= 3) named.push(...NAMES_OF_FORM_3);
  must(same(Object.keys(values), named.filter(has)));
  must(NAMES.every(has) && (schema < 2 || has("correlation")));
  for (const name of ["silent", "including_held", "sign_up"]) must(!has(name) || values[name] === true);
  for (const name of ["holds", "items"]) must(!has(name) || values[name].length > 0); // not written if empty
  must(!has("metadata") || Object.keys(values.metadata).length > 0);
  must(!has("left_out") || values.left_out !== 0);
  texts(values.operation, values.description, values.actor, values.zone ?? "", values.correlation ?? "");
  must(TYPES.includes(values.type));
  orNull((it) => must(/^(19[7-9]|2[0-9]{2})[0-9]-(0[1-9]|1[0-2])$/.test(it)), values.through);
  const number = (name) => (has(name) ? whole(values[name]) : null);
  if (has("price")) {
    const [amount, currency, ...more] = values.price;
    whole(amount);
    texts(currency);
    must(!more.length);
  }
  const items = values.items ?? [];
  for (const [key, amount, description, ...more] of items) {
    texts(key, description);
    whole(amount);
    must(more.length < 2);
    more.forEach((each) => must(metadata(each).length > 0));
  }
  return {
    number: whole(values.number),
    type: values.type,
    amount: whole(values.amount),
    balance: whole(values.balance),
    batches: list(values.batches).map((each) => batchOf(schema, each)),
    legs: legsOf(values.legs),
    through: values.through,
    operation: values.operation,
    description: values.description,
    actor: values.actor,
    effective: instant(values.effective),
    posted: instant(values.posted),
    zone: values.zone,
    usage: number("usage"),
    holds: (values.holds ?? []).map(holdOf),
    hold: number("hold"),
    released: number("released"),
    includingHeld: has("including_held"),
    metadata: metadata(values.metadata ?? {}),
    items,
    price: values.price ?? null,
    refund: has("refund") ? refundOf(values.refund) : null,
    leftOut: number("left_out") ?? 0,
    balanceCap: number("balance_cap"),
    signUp: has("sign_up"),
    toppedUp: has("topped_up") ? instant(values.topped_up) : null,
  };
}

function list(values) {
  must(Array.isArray(values));
  return values;
}

function legsOf(values) {
  return list(values).map((leg) => {
    must(list(leg).length === 2);
    return [whole(leg[0]), whole(leg[1])];
  });
}

function batchOf(schema, values) {
  must(list(values).length === 5 || (values.length === 7 && schema >= 3));
  const [number, granted, remaining, grantedAt, expiresAt] = values;
  const [priority, source] = values.length === 7 ? values.slice(5) : [50, schema >= 3 ? "plan" : null];
  must(values.length === 5 || priority !== 50 || source !== "plan");
  must(whole(priority) >= 0 && priority <= 100 && SOURCES.includes(source));
  [number, granted, remaining].forEach(whole);
  instant(grantedAt);
  orNull(instant, expiresAt);
  return { number, granted, remaining, grantedAt, expiresAt, priority, source };
}

function holdOf(values) {
  must(list(values).length === 3);
  return { number: whole(values[0]), expiresAt: instant(values[1]), legs: legsOf(values[2]) };
}

function refundOf(values) {
  must(list(values).length === 4);
  const [purchase, inAll, unrecovered] = values.slice(0, 3).map(whole);
  return { purchase, inAll, unrecovered, observed: orNull(instant, values[3]), taken: inAll - unrecovered };
}

function metadata(values) {
  must(typeof values === "object" && values !== null && !Array.isArray(values));
  const pairs = Object.entries(values);
  must(pairs.length <= 10);
  for (const [key, text] of pairs) {
    texts(text);
    must(/^[a-z0-9_]{1,40}$/.test(key) && !/[\u0000-\u001f\u007f\p{Cs}]/u.test(text));
  }
  must(new TextEncoder().encode(pairs.flat().join("")).length <= 512);
  return pairs;
}

// --- Walking -------------------------------------------------------------------------------------------------------

/** Goes through a statement; the account is that of its last entry. `earlier`: the entry before the statement. */
class Walk {
  userId = null;
  madeAt = "";
  earlier = 0;
  opening = 0;
  first = null;
  last = null;
  lastHash = "0".repeat(64);
  granted = new Map();
  /** By usage, what it took from each batch and did not give back; under null, that of all usages. */
  used = new Map([[null, new Map()]]);
  refunds = new Map();
  untold = [];
  counted = 0;
  isOpen = false;
  isEnd = false;

  constructor(witnesses) {
    this.witnesses = witnesses;
  }

  /** Takes one line: the head of a page, an entry, or the foot. */
  async take(place, text) {
    try {
      const values = object(text);
      const isHead = Object.hasOwn(values, "format");
      if (this.isOpen && !isHead) {
        if (Object.hasOwn(values, "lines")) this.#close(values);
        else await this.#entry(values);
        return;
      }
      must(isHead && !this.isOpen && values.format === FORMAT && values.before !== undefined);
      texts(values.user_id, values.made_at);
      await this.#head(values.user_id, values.before);
      this.madeAt = values.made_at;
    } catch (error) {
      if (error instanceof Wrong) throw error;
      throw new Wrong(`line ${place} of the file is not one of a statement`);
    }
  }

  /** Checks, after the last line, that it was the foot, and that every witness was seen. */
  finish() {
    if (this.userId === null) throw new Wrong("there is nothing in it");
    if (this.isOpen) throw new Wrong("its last line is missing: it was cut off");
    const latest = Math.max(0, ...this.witnesses.keys());
    if (this.isEnd && latest >= this.next) throw new Wrong(`entries up to ${latest} were witnessed and are gone`, this.next);
  }

  get next() {
    return this.last ? this.last.number + 1 : 1;
  }

  async #head(userId, before) {
    if (this.userId !== null) {
      const at = before && [before.number, before.hash];
      if (!same([userId, at], [this.userId, this.last && [this.last.number, this.lastHash]]))
        throw new Wrong("a page does not begin where the page before it ended");
    } else if (before !== null) {
      this.userId = userId;
      texts(before.previous_hash);
      must(whole(before.number) >= 1);
      if (before.number > 1) this.lastHash = before.previous_hash; // before the first there is nothing
      this.last = await this.#sealed(before);
      this.earlier = this.last.number;
      this.opening = this.last.balance;
      this.granted = byNumber(this.last.batches);
      this.lastHash = before.hash;
    }
    this.userId = userId;
    this.isOpen = true;
    this.counted = 0;
  }

  #close({ lines, is_end: isEnd }) {
    must(typeof lines === "number");
    if (lines !== this.counted) throw new Wrong(`its last line counts ${lines} entries, and there are ${this.counted}`);
    must(typeof isEnd === "boolean");
    this.isOpen = false;
    this.isEnd = isEnd;
  }

  async #entry(values) {
    const number = whole(values.number);
    if (number !== this.next) throw new Wrong(`entry ${this.next} is missing before it`, number);
    const entry = await this.#sealed(values);
    this.#rememberEarlier(entry);
    for (const [isSo, problem] of rules(this, entry)) if (!isSo) throw new Wrong(problem, number);
    this.#book(entry);
    this.last = entry;
    this.lastHash = values.hash;
    this.first ??= number;
    this.counted += 1;
  }

  /** An entry that is, byte for byte, as it was written or as its erasure left it. */
  async #sealed({ number, body, hash, erased = null }) {
    whole(number);
    texts(body, hash, erased ?? "");
    const sealed = erased === null ? body : `${body}\n${hash}`;
    if ((await digest(`${this.lastHash}\n${this.userId}\n${sealed}`)) !== (erased ?? hash))
      throw new Wrong("the hash does not match the body and the entry before", number);
    const entry = entryOf(number, body);
    if (erased !== null && !isErased(this.userId, entry))
      throw new Wrong("it is marked as erased and still has its texts", number);
    if (!(this.witnesses.get(number) ?? []).every((digits) => hash.startsWith(digits)))
      throw new Wrong("its hash is not the one that was witnessed", number);
    return entry;
  }

  /** Batches that were closed before the statement can be reopened: their first appearance is believed. */
  #rememberEarlier(entry) {
    if (entry.type === "reversal" || entry.type === "refund") {
      for (const batch of entry.batches)
        if (this.isEarlier(batch.number) && !this.granted.has(batch.number)) this.granted.set(batch.number, batch);
    }
    const named = entry.refund ? entry.refund.purchase : entry.usage;
    const isTold = !this.isEarlier(named) || this.refunds.has(named);
    const isUnnamed = entry.type === "reversal" && named === null;
    if (!isTold || (isUnnamed && entry.legs.some(([batch]) => this.isEarlier(batch)))) this.untold.push(entry.number);
  }

  /** Whether that entry is from before the statement. */
  isEarlier(number) {
    return number !== null && number >= 1 && number <= this.earlier;
  }

  /** Adds an entry that obeys the rules. */
  #book(entry) {
    if (entry.type === "usage" || entry.type === "reversal") {
      const usage = entry.type === "usage" ? entry.number : entry.usage;
      for (const name of new Set([null, usage])) {
        if (!this.used.has(name)) this.used.set(name, new Map());
        for (const [batch, amount] of entry.legs) add(this.used.get(name), batch, -amount);
      }
    }
    if (entry.type === "purchase")
      this.refunds.set(entry.number, { purchase: entry.number, inAll: 0, unrecovered: 0, observed: null, taken: 0 });
    else if (entry.refund) this.refunds.set(entry.refund.purchase, entry.refund);
  }

  /** The findings, in words. */
  found(wrong) {
    const low = this.first ?? this.next;
    const numbers = [...this.witnesses.keys()].sort((one, other) => one - other);
    const unseen = numbers.filter((number) => number < Math.max(low - 1, 1) || number >= this.next);
    const heard = sum(numbers.filter((each) => !unseen.includes(each)).map((each) => this.witnesses.get(each).length));
    return {
      isRight: wrong === null,
      line: wrong && wrong.line,
      problem: wrong && wrong.message,
      words: [...(wrong ? this.#saidOfWrong(wrong) : [...this.#saidOfEntries(), ...this.#saidOfEnd(heard, unseen)])].join(" "),
      userId: this.userId,
      first: this.first,
      last: this.first && this.last.number,
      balance: this.last ? this.last.balance : 0,
      untold: this.untold,
      unseen,
    };
  }

  *#saidOfWrong({ line, message }) {
    yield `Wrong: ${line === null ? "" : `entry ${line}: `}${message}.`;
    if (line !== null && this.first) yield `What comes before, from entry ${this.first} on, is right.`;
  }

  *#saidOfEntries() {
    if (this.first === null) yield `Right: the statement of user ${this.userId} has no entries.`;
    else
      yield `Right: entries ${this.first} to ${this.next - 1} of user ${this.userId} follow from each other, by their ` +
        "hashes and by the rules.";
    if (this.earlier) yield `They begin after entry ${this.earlier}, with a balance of ${this.opening}.`;
    yield `The balance at the end is ${this.last ? this.last.balance : 0}.`;
    if (this.untold.length)
      yield `Of entries ${this.untold.join(", ")} not all can be told: they name others from before the statement.`;
  }

  *#saidOfEnd(heard, unseen) {
    if (this.isEnd) yield `It says that no entry came after them until ${this.madeAt}.`;
    else yield "It ends before the ledger does.";
    if (heard) yield `What ${heard} emails or events say agrees with it.`;
    if (unseen.length) yield `Witnessed entries that are not in it: ${unseen.join(", ")}.`;
    if (!heard && !unseen.length)
      yield "Only what emails or events say can show that nothing was cut off at its end.";
  }
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const sum = (numbers) => [...numbers].reduce((one, other) => one + other, 0);
const byNumber = (them) => new Map(them.map((each) => [each.number, each]));
const add = (counts, key, amount) => counts.set(key, (counts.get(key) ?? 0) + amount);

async function digest(text) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether nothing is left of the texts of an erased entry. */
function isErased(userId, { description, type, actor, operation, metadata, items }) {
  if (description !== ERASED) return false;
  if (type === "allocation" || type === "expiration") return true;
  const left = ([key, , said, ...more]) => !more.length && key.startsWith(`${ERASED} `) && said === ERASED;
  return (
    actor !== userId && /^[a-z]+#\(erased\) [0-9a-f]{64}$/.test(operation) && !metadata.length && items.every(left)
  );
}

// --- The rules -----------------------------------------------------------------------------------------------------

const isUsable = (batch, now) => batch.expiresAt === null || now < batch.expiresAt;
const amountOf = (hold) => sum(hold.legs.map(([, amount]) => amount));
const grantedBy = (entry) => entry.batches.find((batch) => batch.number === entry.number);
const openedBy = (entry) => entry.holds.find((hold) => hold.number === entry.number);

function held(holds) {
  const found = new Map();
  for (const hold of holds) for (const [batch, amount] of hold.legs) add(found, batch, amount);
  return found;
}

/**
 * The account before an entry, when it was posted: the batches and the active holds by number; by batch what is
 * `free` (usable and not held, in the order of use), and what is `dead` (neither usable nor held).
 */
function stateOf(last, posted) {
  const batches = byNumber(last ? last.batches : []);
  const holds = byNumber((last ? last.holds : []).filter((hold) => posted < hold.expiresAt));
  const reserved = held(holds.values());
  const free = new Map();
  const dead = new Map();
  for (const [number, batch] of batches) {
    const left = batch.remaining - (reserved.get(number) ?? 0);
    if (left) (isUsable(batch, posted) ? free : dead).set(number, left);
  }
  return { batches, holds, free, dead };
}

/** Every rule of an entry, with what is wrong if it is broken. The first broken one counts. */
function* rules(walk, entry) {
  const { last, granted } = walk;
  const batch = grantedBy(entry);
  if (batch) granted.set(batch.number, batch);
  const legs = new Map(entry.legs);
  yield [legs.size === entry.legs.length, "a batch has two legs"];
  yield [[...legs.keys()].every((number) => granted.has(number)), "a leg moves a batch that was never granted"];
  yield [entry.amount === sum(legs.values()), "the amount is not the sum of the legs"];
  yield [entry.balance === (last ? last.balance : 0) + entry.amount, "the balance does not add up"];
  yield [same(openAfter(last, legs, granted), entry.batches), "the open batches do not add up"];
  yield [entry.batches.every((each) => each.remaining > 0), "an open batch holds nothing"];
  yield [entry.batches.every((each) => each.remaining <= each.granted), "a batch holds more than it was granted"];
  yield [!last || entry.posted >= last.posted, "it was posted before the entry before it"];
  yield [entry.effective <= entry.posted, "it was posted before it was due"];
  const state = stateOf(last, entry.posted);
  if (batch) yield* rulesOfGrant(entry, batch);
  yield* rulesOfHolds(state, entry);
  yield* rulesOfSweep(state, entry);
  yield* rulesOfType(last, state, entry);
  if (entry.items.length) yield* rulesOfItems(entry);
  yield* rulesOfCap(state, entry);
  yield [!entry.signUp || entry.type === "allocation", "only an allocation is a first"];
  if (entry.type === "reversal") yield* rulesOfReversal(walk, entry);
  else yield [entry.usage === null, "it gives back no usage, and names one"];
  yield [entry.price === null || entry.type === "purchase", "it has a price, and is no purchase"];
  yield [
    (entry.refund !== null) === (entry.type === "refund"),
    "it says what was refunded, and is no refund, or the other way round",
  ];
  if (entry.refund) yield* rulesOfRefund(walk, state, entry, entry.refund);
}

function openAfter(last, legs, granted) {
  const remaining = new Map((last ? last.batches : []).map((batch) => [batch.number, batch.remaining]));
  for (const [number, amount] of legs) add(remaining, number, amount);
  return [...remaining]
    .filter(([, left]) => left)
    .map(([number, left]) => ({ ...granted.get(number), remaining: left }))
    .sort((one, other) => one.priority - other.priority || one.grantedAt - other.grantedAt || one.number - other.number);
}

function* rulesOfGrant(entry, batch) {
  yield [same(entry.legs, [[batch.number, batch.granted]]), "a grant moves its own batch, whole, and no other"];
  yield [batch.grantedAt <= entry.posted, "it grants credits of a later time"];
  yield [isUsable(batch, entry.posted), "it grants credits that have expired"];
  yield [
    (batch.source === "purchase") === (entry.type === "purchase"),
    "a purchase alone grants what was bought",
  ];
}

function* rulesOfHolds(state, entry) {
  const remaining = new Map(entry.batches.map((batch) => [batch.number, batch.remaining]));
  yield [
    [...held(entry.holds)].every(([batch, amount]) => amount <= (remaining.get(batch) ?? 0)),
    "more is held of a batch than remains of it",
  ];
  yield [
    entry.holds.every((hold) => hold.legs.every(([, amount]) => amount > 0)),
    "a hold sets nothing aside in a batch",
  ];
  const ends = entry.hold !== null;
  yield [!ends || state.holds.has(entry.hold), "it ends a hold that is not active"];
  yield [
    !ends || entry.type === "usage" || entry.type === "release",
    "it ends a hold, and is neither a usage nor a release",
  ];
  yield [(entry.released !== null) === ends, "what it releases and what hold it ends do not go together"];
  yield [(openedBy(entry) !== undefined) === (entry.type === "hold"), "it opens a hold that it is not"];
  const after = [...byNumber(entry.holds).values()].filter((hold) => hold.number !== entry.number);
  const before = [...state.holds.values()].filter((hold) => hold.number !== entry.hold);
  if (entry.includingHeld) {
    yield [entry.type === "manual" && entry.amount < 0, "only a claw-back takes the held"];
    yield [same(after.map(({ number }) => number), before.map(({ number }) => number)), "a hold left that was not ended"];
    yield [same(after, cut(before, remaining)), "the holds did not keep what is left"];
  } else {
    yield [same(after, before), "a hold left early, stayed too long, or is another"];
  }
}

/** The holds, the oldest first, limited to what is left in their batches. */
function cut(holds, remaining) {
  const left = new Map(remaining);
  return holds.map((hold) => {
    const legs = hold.legs.map(([batch, amount]) => [batch, Math.min(amount, left.get(batch) ?? 0)]);
    for (const [batch, amount] of legs) add(left, batch, -amount);
    return { ...hold, legs: legs.filter(([, amount]) => amount) };
  });
}

function* rulesOfSweep(state, entry) {
  const batch = grantedBy(entry);
  const opened = openedBy(entry);
  let expires = batch !== undefined && batch.expiresAt !== null;
  if (opened) {
    const batches = byNumber(entry.batches);
    const ends = opened.legs.map(([number]) => batches.get(number).expiresAt);
    expires = ends.some((end) => end !== null && end < opened.expiresAt);
  }
  if (entry.hold !== null) {
    const moved = new Map(entry.legs);
    const legs = state.holds.get(entry.hold).legs;
    const dead = legs.filter(([number]) => !isUsable(state.batches.get(number), entry.posted));
    expires = dead.some(([number, amount]) => amount > -(moved.get(number) ?? 0));
  }
  yield [(entry.zone !== null) === expires, "the zone of its expiry is wrong"];
}

function* rulesOfItems(entry) {
  yield [entry.type === "usage" && entry.hold === null, "it has the items of a usage, but is not a usage"];
  const amounts = entry.items.map(([, amount]) => amount);
  yield [amounts.every((amount) => amount > 0), "an item takes no credits"];
  yield [sum(amounts) === -entry.amount, "the amount is not the sum of the items"];
  const keys = new Set(entry.items.map(([key]) => key));
  yield [
    keys.size === entry.items.length && keys.size <= MOST_ITEMS,
    "its items are too many, or have a key twice",
  ];
}

function* rulesOfCap(state, entry) {
  const cap = entry.balanceCap;
  yield [(cap !== null) === (entry.leftOut !== 0), "its cap and what it left out disagree"];
  if (cap === null) return;
  yield [entry.type === "allocation", "only an allocation leaves credits out"];
  yield [entry.leftOut > 0 && cap > 0, "it leaves out what no allocation does"];
  const usable = [...state.batches.values()].filter((batch) => isUsable(batch, entry.posted));
  const there = sum(usable.map((batch) => batch.remaining));
  yield [entry.amount === Math.max(0, cap - there), "it does not fill the balance up to its cap"];
}

function* rulesOfReversal(walk, entry) {
  yield [
    entry.legs.every(([batch]) => isUsable(walk.granted.get(batch), entry.posted)),
    "a reversal revives expired credits",
  ];
  const isEarlier = walk.isEarlier(entry.usage);
  yield [isEarlier || walk.used.has(entry.usage), "it names an entry that is not a usage"];
  // No count includes what was used before the statement.
  const legs = entry.legs.filter(([batch]) => !walk.isEarlier(batch));
  const within = (them, left) => them.every(([batch, amount]) => amount <= (left.get(batch) ?? 0));
  if (!isEarlier) {
    const told = entry.usage === null ? legs : entry.legs;
    yield [within(told, walk.used.get(entry.usage)), "a reversal gives back more than was used"];
  }
  yield [within(legs, walk.used.get(null)), "reversals give back more than was used"];
}

function* rulesOfRefund(walk, state, entry, refund) {
  const before = walk.refunds.get(refund.purchase);
  const batch = walk.granted.get(refund.purchase);
  yield [before !== undefined || walk.isEarlier(refund.purchase), "it names an entry that is not a purchase"];
  yield [refund.inAll >= 0 && (!batch || refund.inAll <= batch.granted), "it refunds what was never bought"];
  yield [
    refund.unrecovered >= 0 && refund.unrecovered <= refund.inAll,
    "it says what cannot be unrecovered",
  ];
  const others = "a refund moves its purchase's batch, and no other";
  if (!before) {
    // The statement does not contain the purchase's state before it.
    yield [entry.legs.every(([number]) => number === refund.purchase), others];
    return;
  }
  yield [
    before.observed === null || (refund.observed !== null && refund.observed >= before.observed),
    "it was observed before the refund before it",
  ];
  const taken = refund.taken - before.taken;
  if (refund.inAll > before.inAll) {
    const free = state.free.get(refund.purchase) ?? 0;
    yield [taken === Math.min(free, refund.inAll - before.taken), "it does not take back what it can"];
  } else {
    yield [refund.taken === Math.min(before.taken, refund.inAll), "it does not give back what was taken too much"];
  }
  const isMoved = taken !== 0 && batch !== undefined && isUsable(batch, entry.posted);
  yield [same(entry.legs, isMoved ? [[refund.purchase, -taken]] : []), others];
}

function* rulesOfType(last, state, entry) {
  const grants = grantedBy(entry) !== undefined;
  const movesNothing = entry.legs.length === 0;
  switch (entry.type) {
    case "allocation":
      yield [grants || entry.leftOut > 0, "an allocation grants a batch"];
      yield [grants || movesNothing, "an allocation moves its own batch, and no other"];
      yield* rulesOfPeriod(last, entry);
      return;
    case "expiration": {
      const dead = [...state.dead].map(([batch, amount]) => [batch, -amount]);
      yield [same(entry.legs, dead) && dead.length > 0, "it does not expire exactly what is due"];
      break;
    }
    case "usage":
      yield [entry.amount < 0, "a usage takes credits"];
      if (entry.hold === null) yield [isBurnDown(state.free, entry.legs), "credits were not taken oldest first"];
      else yield* rulesOfCapture(state, entry, state.holds.get(entry.hold));
      break;
    case "manual":
      yield* rulesOfAdjustment(state, entry, grants);
      break;
    case "reversal":
      yield [!grants && entry.legs.every(([, amount]) => amount > 0), "a reversal gives back"];
      break;
    case "purchase":
      yield [grants, "a purchase grants a batch"];
      break;
    case "hold":
      yield [movesNothing, "a hold moves no credits"];
      yield* rulesOfOpening(state, entry, openedBy(entry));
      break;
    case "release":
      yield [movesNothing, "a release moves no credits"];
      yield [
        entry.hold !== null && entry.released === amountOf(state.holds.get(entry.hold)),
        "it does not release what was held",
      ];
      break;
  }
  yield [
    entry.through === (last ? last.through : null),
    "the allocated period moved without an allocation",
  ];
  yield [
    entry.toppedUp === (last ? last.toppedUp : null),
    "what tops up the period changed without an allocation",
  ];
}

function* rulesOfPeriod(last, entry) {
  const { through, operation, toppedUp: at } = entry;
  const before = last ? last.through : null;
  if (!operation.startsWith("plan_change#")) {
    yield [through !== null && (before === null || through > before), "the allocated period did not move forward"];
    yield [operation === `allocation#${through}`, "the operation names another period"];
    return;
  }
  const latest = last ? last.toppedUp : null;
  yield [through !== null && through === before, "it tops up a period that is not the last"];
  yield [at !== null && (latest === null || at > latest), "a period was topped up twice"];
  const instantText = new Date(at).toISOString().replace(".000Z", "Z");
  yield [operation === `plan_change#${through}#${instantText}`, "the operation names another period"];
  yield [!entry.signUp, "what tops up a period is not a first"];
}

function* rulesOfAdjustment(state, entry, grants) {
  const isEmpty = entry.legs.length === 0 && state.free.size === 0;
  yield [grants || entry.amount < 0 || isEmpty, "it neither grants nor takes"];
  if (entry.operation.startsWith("void#")) {
    const usable = [...state.batches.values()].filter((batch) => isUsable(batch, entry.posted));
    const wanted = entry.includingHeld ? usable.map((batch) => [batch.number, batch.remaining]) : [...state.free];
    const isVoid = entry.legs.length === 1 && wanted.some(([batch, amount]) => same(entry.legs[0], [batch, -amount]));
    yield [isVoid, "a void takes all of one batch and no other"];
  } else {
    yield [grants || isEmpty || isClawBack(state, entry), "credits were not taken oldest first"];
  }
}

function* rulesOfOpening(state, entry, opened) {
  const legs = (opened ? opened.legs : []).map(([batch, amount]) => [batch, -amount]);
  yield [isBurnDown(state.free, legs), "credits were not held oldest first"];
  const lasts = opened.expiresAt - entry.posted;
  yield [lasts > 0 && lasts <= LONGEST_HOLD, "it holds for a time that no hold has"];
}

function* rulesOfCapture(state, entry, hold) {
  const fromHold = Math.min(-entry.amount, amountOf(hold));
  yield [entry.released === amountOf(hold) - fromHold, "it does not release the rest of its hold"];
  if (fromHold < amountOf(hold)) {
    yield [isBurnDown(new Map(hold.legs), entry.legs), "credits were not captured oldest first"];
    return;
  }
  const taken = takenBeyond(entry.legs, hold.legs);
  yield [[...taken.values()].every((amount) => amount >= 0), "a capture leaves a part of what is held"];
  yield [isRest(state.free, taken), "what a capture took beyond its hold was not free, or not the oldest"];
}

/** Whether it took free credits, the oldest first; and held ones only where it may. */
function isClawBack(state, entry) {
  if (!entry.includingHeld) return isBurnDown(state.free, entry.legs);
  const taken = takenBeyond(entry.legs, state.free);
  const reserved = held(state.holds.values());
  const usable = new Map();
  for (const [number, batch] of state.batches)
    if (isUsable(batch, entry.posted) && reserved.get(number)) usable.set(number, reserved.get(number));
  return (
    [...taken.values()].every((amount) => amount >= 0) &&
    [...usable.keys()].some((batch) => taken.get(batch)) &&
    isRest(usable, taken)
  );
}

/** By batch, what legs take, minus some amounts. */
function takenBeyond(legs, amounts) {
  const taken = new Map();
  for (const [batch, amount] of legs) add(taken, batch, -amount);
  for (const [batch, amount] of amounts) add(taken, batch, -amount);
  return taken;
}

/** Whether everything taken, if anything, was from the remaining credits, the oldest first. */
function isRest(left, taken) {
  const legs = [...left.keys()].filter((batch) => taken.get(batch)).map((batch) => [batch, -taken.get(batch)]);
  const inAll = -sum(legs.map(([, amount]) => amount));
  return sum(taken.values()) === inAll && (!legs.length || isBurnDown(left, legs));
}

/** Whether the legs empty the oldest batches in order; the last may be emptied partly. */
function isBurnDown(left, legs) {
  if (!legs.length || legs.length > left.size) return false;
  const oldest = [...left].slice(0, legs.length);
  return legs.every(([batch, amount], place) => {
    const [number, there] = oldest[place];
    const isLast = place === legs.length - 1;
    return batch === number && (isLast ? -there <= amount && amount < 0 : amount === -there);
  });
}

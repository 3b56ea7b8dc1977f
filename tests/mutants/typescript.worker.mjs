// A process that has loaded React and a document already: runs a file of tests with one module changed, as often as it is asked.
//
// A message is the address of the tests, that of the changed module, and its code; the answer is whether a test failed. To the
// tests this module is `node:test`: of that they use `test`, `before`, `afterEach` and `t.mock`.

import { registerHooks } from "node:module";
import { mock } from "node:test";

let asked = { changed: "", code: "" };
let number = 0;
let tests = [];
let beginnings = [];
let endings = [];
let stray = null;
let killers = []; // the names of the tests that noticed a mistake last: the likeliest to notice the next
const rank = ({ name }) => killers.indexOf(name) + 1 || Infinity;

export const test = (name, ...words) => void tests.push({ name, work: words.at(-1) });
export const before = (work) => void beginnings.push(work);
export const afterEach = (work) => void endings.push(work);

registerHooks({
  resolve(specifier, context, next) {
    if (!context.parentURL?.includes("?mutant=")) return next(specifier, context);
    if (specifier === "node:test") return { url: import.meta.url, shortCircuit: true };
    const found = next(specifier, context);
    return specifier.startsWith(".") ? { ...found, url: `${found.url}?mutant=${number}` } : found;
  },
  load: (url, context, next) =>
    url === `${asked.changed}?mutant=${number}` ? { format: "module", source: asked.code, shortCircuit: true } : next(url, context),
});

async function hasFailure() {
  let running = "";
  [tests, beginnings, endings, stray, number] = [[], [], [], null, number + 1];
  try {
    await import(`${asked.tests}?mutant=${number}`);
    for (const work of beginnings) await work();
    for (const { name, work } of tests.sort((one, other) => rank(one) - rank(other))) {
      running = name;
      try {
        await work({ mock });
      } finally {
        for (const ending of endings) await ending();
        mock.restoreAll();
        mock.timers.reset();
      }
      if (stray) throw stray;
    }
    return false;
  } catch {
    killers = [running, ...killers.filter((other) => other !== running)];
    return true;
  }
}

console.log = console.warn = console.error = () => {};
for (const event of ["uncaughtException", "unhandledRejection"]) process.on(event, (error) => (stray = error));
process.on("message", async (message) => {
  asked = message;
  process.send(await hasFailure());
});

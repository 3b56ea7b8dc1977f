// All the small mistakes that could be made in the TypeScript client, and which of them its tests notice.
//
//     node tests/mutants/typescript.mjs clients/typescript null clients/typescript/src/client.ts ...
//
// In the place of null there can be a list of lines, whose mistakes are the only ones then.
//
// Writes one line of JSON, the mutants; reads one, which of them to try; writes the fate of each as soon as it is known.
// Called by `python -m tests.mutants`. A mutant is compiled without its types.

import { fork } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { compiled, mutantsOf } from "./typescript.mutations.mjs";

const [client, lines, ...files] = process.argv.slice(2);
const LONGEST_MS = 15_000;

const mutants = files.flatMap((file) => mutantsOf(file, JSON.parse(lines)));
console.log(JSON.stringify(mutants.map(({ code, ...rest }) => rest)));
const chosen = JSON.parse((await text(process.stdin)) || "[]");
if (!chosen.length) process.exit();

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mutants-"));
process.on("exit", () => fs.rmSync(folder, { recursive: true }));
fs.symlinkSync(path.resolve(client, "node_modules"), path.join(folder, "node_modules"));
fs.copyFileSync(path.join(client, "package.json"), path.join(folder, "package.json"));
const target = (file) => path.join(folder, path.relative(client, file).replace(/\.tsx?$/, ".js"));
const url = (file) => pathToFileURL(target(file)).href;
const all = fs.globSync(`${client}/src/**/*.{ts,tsx}`);
for (const file of all) {
  fs.mkdirSync(path.dirname(target(file)), { recursive: true });
  fs.writeFileSync(target(file), compiled(file, fs.readFileSync(file, "utf8")));
}

let worker = null;

/** Whether a test of a file fails with a module changed; null if it does not come to an end. */
async function fails(test, changed, code) {
  worker ??= fork(new URL("typescript.worker.mjs", import.meta.url), { execArgv: ["--max-old-space-size=1024"], stdio: ["ignore", "ignore", "ignore", "ipc"] });
  worker.send({ tests: url(test), changed: url(changed), code });
  const over = new AbortController();
  const answer = await Promise.race([once(worker, "message", over), once(worker, "exit", over).then(() => [true]), setTimeout(LONGEST_MS, [null], over)]);
  over.abort();
  if (answer[0] === null || worker.exitCode !== null) await kill();
  return answer[0];
}

async function kill() {
  if (worker?.kill("SIGKILL")) await once(worker, "exit");
  worker = null;
}

/** What becomes of the tests, those next to the file first: the first failure is enough. */
async function fateOf({ file, code }) {
  const isFar = (test) => path.dirname(test) !== path.dirname(file);
  for (const test of all.filter((each) => /\.test\.tsx?$/.test(each)).sort((one, other) => isFar(one) - isFar(other))) {
    const failure = await fails(test, file, code);
    if (failure !== false) return failure ? "killed" : "ran out of time";
  }
  return "survived";
}

const unchanged = { file: files[0], code: compiled(files[0], fs.readFileSync(files[0], "utf8")) };
if ((await fateOf(unchanged)) !== "survived") throw new Error("the tests fail without any mistake");
/** The fates of some mutants. One may leave something behind that the next ones fail of, so what cannot be trusted is tried again. */
async function fatesOf(batch) {
  const fates = new Map();
  for (const mutant of batch) fates.set(mutant, await fateOf(mutant));
  if (worker && (await fateOf(unchanged)) === "survived") return fates;
  await kill();
  if (batch.length === 1) return fates;
  const again = batch.filter((mutant) => fates.get(mutant) === "killed");
  const half = again.length < batch.length ? again.length : again.length >> 1;
  for (const part of [again.slice(0, half), again.slice(half)]) {
    for (const [mutant, fate] of part.length ? await fatesOf(part) : []) fates.set(mutant, fate);
  }
  return fates;
}

for (let start = 0; start < chosen.length; start += 20) {
  const fates = await fatesOf(chosen.slice(start, start + 20).map((number) => mutants[number]));
  for (const fate of fates.values()) console.log(JSON.stringify(fate));
}
await kill();

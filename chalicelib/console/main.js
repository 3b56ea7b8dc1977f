// The console of a stack has one area. The local console, which has more, has this module of its own,
// and session.js, because nobody signs in there: see infra/local/console.

import { run } from "./shell.js";
import { support } from "./support.js";

run([support]);

// The console of a stack: people sign in, and there is one area.

import * as session from "./session.js";
import { run } from "./shell.js";
import { support } from "./support.js";

run(session, [support]);

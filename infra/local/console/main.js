// The local console: the console of a stack, with one more tab for what a user sees and one for what
// is behind it. Nobody signs in.

import { onSent } from "./api.js";
import { h } from "./dom.js";
import { run } from "./shell.js";
import { support } from "./support.js";
import { customer } from "./customer.js";
import { lab } from "./lab.js";
import { supportHref } from "./local.js";
import { record } from "./sent.js";

document.head.append(h("link", { rel: "stylesheet", href: "console/local.css" }));
onSent(record);
run([customer, { ...support, start: supportHref }, lab]);

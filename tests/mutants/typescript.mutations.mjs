// All the small mistakes that could be made in a file of TypeScript, as `typescript.mjs` tries them.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const client = process.argv[2];
const ts = createRequire(path.resolve(client, "package.json"))("typescript");
const { options } = ts.convertCompilerOptionsFromJson(JSON.parse(fs.readFileSync(path.join(client, "tsconfig.json"), "utf8")).compilerOptions, client);
delete options.rootDir;
options.module = ts.ModuleKind.ESNext; // without a package.json to look at

const OPERATORS = {
  "===": "!==", "!==": "===", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
  "+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "**": "*", "+=": "-=", "&&": "||", "||": "&&", "??": "||",
};
/** What could stand in the place of a node, or of a range of the text: pairs of the one and the other. */
function* changesOf(node) {
  const { parent } = node;
  const name = node.operatorToken?.getText();
  if (OPERATORS[name] && ["&&", "||", "??"].includes(name)) {
    for (const words of [`${node.left.getText()} ${OPERATORS[name]} ${node.right.getText()}`, node.left.getText(), node.right.getText()]) yield [node, words];
  } else if (OPERATORS[name]) yield [node.operatorToken, OPERATORS[name]];
  else if (name === "instanceof") yield* [[node, "true"], [node, "false"]];
  else if (ts.isPrefixUnaryExpression(node) || ts.isAwaitExpression(node)) yield [node, (node.operand ?? node.expression).getText()];
  else if (ts.isYieldExpression(node) && node.asteriskToken) yield [node.asteriskToken, ""];
  else if (ts.isIfStatement(node)) yield* [[node.expression, "true"], [node.expression, "false"]];
  else if (ts.isConditionalExpression(node)) yield* [[node, node.whenTrue.getText()], [node, node.whenFalse.getText()]];
  else if (node.kind === ts.SyntaxKind.TrueKeyword) yield [node, "false"];
  else if (node.kind === ts.SyntaxKind.FalseKeyword) yield [node, "true"];
  else if (ts.isNumericLiteral(node)) for (const step of [1, -1]) yield [node, String(Number(node.getText().replaceAll("_", "")) + step)];
  else if (ts.isStringLiteralLike(node)) {
    if (parent.name !== node && !ts.isJsxAttribute(parent)) yield [node, node.text ? '""' : '"XX"'];
  } else if (ts.isRegularExpressionLiteral(node)) {
    for (const { index } of node.text.matchAll(/(?<!\\)[+*?^$]/g)) yield [[node.getStart() + index, node.getStart() + index + 1], ""];
  } else if (ts.isTemplateExpression(node)) {
    for (const part of [node.head, ...node.templateSpans.map(({ literal }) => literal)]) {
      if (part.text) yield [[part.getStart() + 1, part.getEnd() - (ts.isTemplateTail(part) ? 1 : 2)], ""];
    }
    for (const { expression, literal } of node.templateSpans) yield [[expression.getStart() - 2, literal.getStart() + 1], ""];
  } else if (ts.isObjectLiteralExpression(node)) yield* node.properties.map((each) => [withComma(each), ""]);
  else if (ts.isArrayLiteralExpression(node)) yield* node.elements.map((each) => [withComma(each), ""]);
  else if (ts.isReturnStatement(node) && node.expression) {
    if (node.expression.getText() !== "undefined") yield [node, "return;"];
  } else if (ts.isExpressionStatement(node) || ts.isThrowStatement(node) || ts.isContinueStatement(node) || ts.isReturnStatement(node)) {
    if (!node.getText().startsWith("super")) yield [node, ";"];
  } else if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) yield [node.body, "undefined"];
  else if (ts.isVariableDeclaration(node) && node.initializer && ts.isIdentifier(node.name)) yield [node.initializer, "undefined"];
  else if ((ts.isParameter(node) || ts.isBindingElement(node)) && node.initializer) yield [[(node.type ?? node.name).getEnd(), node.initializer.getEnd()], ""];
  else if (ts.isJsxAttribute(node) || (ts.isJsxText(node) && node.text.trim())) yield [node, ""];
  else if (ts.isCallExpression(node) || ts.isNewExpression(node)) yield* changesOfCall(node);
  if (node.questionDotToken) yield [node.questionDotToken, ts.isPropertyAccessExpression(node) ? "." : ""];
  if (parent.children?.includes(node) && !ts.isJsxText(node)) yield [node, ""];
}

function* changesOfCall(node) {
  const given = node.arguments ?? [];
  for (const each of given) {
    if (!ts.isArrowFunction(each) && !ts.isStringLiteral(each) && !ts.isSpreadElement(each)) yield [each, "undefined"];
  }
  const of = ts.isPropertyAccessExpression(node.expression) ? node.expression.expression.getText() : node.expression.getText();
  if (/^(Math|JSON|Object|String|Number)$/.test(of)) yield* given.map((each) => [node, each.getText()]); // as it is, and not what is made of it
  else if (ts.isPropertyAccessExpression(node.expression) && of !== "this" && !ts.isExpressionStatement(node.parent)) yield [node, of];
}

function withComma(node) {
  const comma = /^\s*,/.exec(node.getSourceFile().text.slice(node.getEnd()))?.[0].length ?? 0;
  return [node.getStart(), node.getEnd() + comma];
}

/** The function or class that a node is in, with the class of a method. */
function functionOf(node) {
  const names = [];
  for (let one = node; one; one = one.parent) {
    if (ts.isFunctionDeclaration(one) || ts.isMethodDeclaration(one) || ts.isGetAccessor(one) || ts.isClassDeclaration(one)) names.unshift(one.name.text);
    if (ts.isConstructorDeclaration(one)) names.unshift("constructor");
  }
  return names.join(".");
}

/** The program of a file, without a look at its types; null if it is not a program. */
export function compiled(file, text) {
  const { outputText, diagnostics } = ts.transpileModule(text, { fileName: file, compilerOptions: options, reportDiagnostics: true });
  return diagnostics.length ? null : outputText;
}

/** Every mutant of a file that is another program, and one that compiles; or only those of these lines: to compile takes long. */
export function mutantsOf(file, lines = null) {
  const text = fs.readFileSync(file, "utf8");
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const seen = new Set([null, compiled(file, text)]);
  const found = [];
  const visit = (node) => {
    if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || ts.isExportDeclaration(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) return;
    for (const [place, words] of node.parent ? changesOf(node) : []) {
      const [start, end] = Array.isArray(place) ? place : [place.getStart(), place.getEnd()];
      const isBare = Array.isArray(place) || !ts.isExpression(place) || ts.isJsxText(place) || /^[\w".-]*$/.test(words);
      const changed = isBare ? words : `(${words})`;
      const [first, last] = [text.lastIndexOf("\n", start - 1) + 1, (text + "\n").indexOf("\n", end)];
      const oneLine = (lines) => lines.split("\n").map((each) => each.trim()).filter(Boolean).join(" ");
      if (lines && !lines.includes(oneLine(text.slice(first, last)))) continue;
      const code = compiled(file, text.slice(0, start) + changed + text.slice(end));
      if (seen.has(code)) continue;
      seen.add(code);
      found.push({
        file, function: functionOf(node), line: source.getLineAndCharacterOfPosition(start).line + 1, code,
        before: oneLine(text.slice(first, last)), after: oneLine(text.slice(first, start) + changed + text.slice(end, last)),
      });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

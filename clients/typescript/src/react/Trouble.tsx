import type { ReactNode } from "react";
import { UnauthenticatedError } from "../client.js";
import type { Texts } from "../texts/texts.js";

export interface TroubleProps {
  error: unknown;
  texts: Texts;
  onRetry: () => void;
}

/** Explains that something cannot be shown, and offers a way to go on. */
export function Trouble({ error, texts, onRetry }: TroubleProps) {
  const isSignedOut = error instanceof UnauthenticatedError;
  return (
    <Alert texts={texts} onRetry={onRetry}>
      {isSignedOut ? texts.signedOut : texts.cannotBeShown}
    </Alert>
  );
}

/** Says what went wrong; with `onRetry`, it can be tried again. */
export function Alert({ texts, onRetry, children }: { texts: Texts; onRetry?: (() => void) | undefined; children: ReactNode }) {
  return (
    <div role="alert" className="credits-trouble">
      <p>{children}</p>
      {onRetry ? (
        <button type="button" onClick={onRetry}>
          {texts.tryAgain}
        </button>
      ) : null}
    </div>
  );
}

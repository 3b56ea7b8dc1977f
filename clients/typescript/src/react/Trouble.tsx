import { UnauthenticatedError } from "../client.js";

/** Explains an error to the user, and offers a way to go on. */
export function Trouble({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const isSignedOut = error instanceof UnauthenticatedError;
  return (
    <div role="alert" className="credits-trouble">
      <p>{isSignedOut ? "Your session has expired. Sign in again to see your credits." : "Your credits cannot be shown right now."}</p>
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

import { UnauthenticatedError } from "../client.js";

/** What went wrong, in words for the user, and a way on. */
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

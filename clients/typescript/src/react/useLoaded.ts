import { useEffect, useState } from "react";

export interface Loaded<Value> {
  value: Value | null;
  error: unknown;
  isLoading: boolean;
}

/** The result of a promise; loads again when `load` changes. Late results are dropped. */
export function useLoaded<Value>(load: (signal: AbortSignal) => Promise<Value>): Loaded<Value> {
  const [state, setState] = useState<Loaded<Value>>({ value: null, error: null, isLoading: true });
  useEffect(() => {
    const leaving = new AbortController();
    setState((before) => ({ ...before, isLoading: true }));
    load(leaving.signal).then(
      (value) => leaving.signal.aborted || setState({ value, error: null, isLoading: false }),
      (error: unknown) => leaving.signal.aborted || setState({ value: null, error, isLoading: false }),
    );
    return () => leaving.abort();
  }, [load]);
  return state;
}

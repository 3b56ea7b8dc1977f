import { useCallback, useEffect, useState } from "react";

export interface Loaded<Value> {
  value: Value | null;
  error: unknown;
  isLoading: boolean;
  reload: () => void;
}

/** The result of a promise; loads again when `load` changes or `reload` is called. Late results are dropped. */
export function useLoaded<Value>(load: (signal: AbortSignal) => Promise<Value>): Loaded<Value> {
  const [state, setState] = useState<Omit<Loaded<Value>, "reload">>({ value: null, error: null, isLoading: true });
  const [version, setVersion] = useState(0);
  useEffect(() => {
    const leaving = new AbortController();
    setState((before) => ({ ...before, isLoading: true }));
    load(leaving.signal).then(
      (value) => leaving.signal.aborted || setState({ value, error: null, isLoading: false }),
      (error: unknown) => leaving.signal.aborted || setState({ value: null, error, isLoading: false }),
    );
    return () => leaving.abort();
  }, [load, version]);
  const reload = useCallback(() => setVersion((before) => before + 1), []);
  return { ...state, reload };
}

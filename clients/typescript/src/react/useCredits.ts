import { useCallback, useSyncExternalStore } from "react";
import type { AllocationSchedule } from "../client.js";
import { useSettings, type CreditsSettings } from "./CreditsProvider.js";
import { useLoaded } from "./useLoaded.js";

export interface Credits {
  /** The credits that can be used now, minus those of uses under way; null while nothing is known. */
  available: number | null;
  /** How many credits the uses under way will take. */
  pending: number;
  /** When the next credits come and the current ones expire, by the API's last answer. */
  schedule: AllocationSchedule | null;
  error: unknown;
  isLoading: boolean;
  /** Reloads, also for all other components of the same client. */
  refresh: () => void;
}

/** A user's credits. Components that ask at the same time send one request. */
export function useCredits(settings: CreditsSettings = {}): Credits {
  const { store } = useSettings(settings);
  const { version, debits } = useSyncExternalStore(store.subscribe, () => store.state, () => store.state);
  const load = useCallback(async (signal: AbortSignal) => ({ schedule: await store.schedule(signal), version }), [store, version]);
  const { value, error, isLoading } = useLoaded(load);
  const open = debits.filter(({ usedAt }) => usedAt === null || (value && usedAt > value.version));
  const pending = open.reduce((sum, { amount }) => sum + amount, 0);
  const schedule = value?.schedule ?? null;
  const available = schedule && Math.max(0, schedule.current_balance - pending);
  return { available, pending, schedule, error, isLoading, refresh: store.refresh };
}

import { useCallback } from "react";
import type { Forecast, ForecastRate } from "../client.js";
import { useSettings, type CreditsSettings } from "./CreditsProvider.js";
import { useCredits } from "./useCredits.js";
import { useLoaded } from "./useLoaded.js";

export interface Outlook {
  /** What will come and go, as the API said last; null while nothing is known. */
  forecast: Forecast | null;
  /** What comes of it at the one rate that is most justified; null if none is. */
  pace: ForecastRate | null;
  error: unknown;
  isLoading: boolean;
}

/** The windows of that rate, the better first: a month's work and its weekends; in a young ledger, a week. */
const PACES = [30, 7];

const DAY = 86_400_000;

/**
 * How long a user's credits will last. It is asked for once they are known, and again when they have changed or a day has
 * passed: an answer costs the API more than a balance does.
 */
export function useForecast(settings: CreditsSettings = {}): Outlook {
  const { store, now } = useSettings(settings);
  const balance = useCredits(settings).schedule?.current_balance;
  const today = Math.floor(now() / DAY);
  const load = useCallback(
    async (signal: AbortSignal) => (balance === undefined ? null : store.forecast(signal)),
    [store, balance, today],
  );
  const { value, error, isLoading } = useLoaded(load);
  return { forecast: value, pace: value && paceOf(value), error, isLoading };
}

function paceOf({ rates }: Forecast): ForecastRate | null {
  const justified = rates.filter(({ no_rate_because }) => !no_rate_because);
  return PACES.flatMap((days) => justified.filter(({ window_days }) => window_days === days))[0] ?? null;
}

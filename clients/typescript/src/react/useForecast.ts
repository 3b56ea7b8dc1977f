import { useCallback } from "react";
import type { Forecast, ForecastRate } from "../client.js";
import { useSettings, type CreditsSettings } from "./CreditsProvider.js";
import { useCredits } from "./useCredits.js";
import { useLoaded } from "./useLoaded.js";

export interface Outlook {
  /** Future grants and expiries, by the API's last answer; null while nothing is known. */
  forecast: Forecast | null;
  /** The forecast at the best justified rate; null if no rate is justified. */
  pace: ForecastRate | null;
  error: unknown;
  isLoading: boolean;
}

/** The windows of that rate, the better one first: a month with its weekends; in a young ledger, a week. */
const PACES = [30, 7];

const DAY = 86_400_000;

/**
 * How long a user's credits will last. It is loaded once they are known, and again when they have changed or a day has
 * passed: it costs the API more than a balance.
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

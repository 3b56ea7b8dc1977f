import { useCallback, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { Transaction, TransactionType } from "../client.js";
import { useSettings, type CreditsSettings } from "./CreditsProvider.js";
import { useLoaded } from "./useLoaded.js";

export interface HistorySettings extends CreditsSettings {
  /** Only lines of this type. */
  type?: TransactionType | null | undefined;
  /** Lines on a page; the default is 20. */
  pageSize?: number | undefined;
}

export interface History {
  /** The lines so far, newest first. */
  lines: readonly Transaction[];
  error: unknown;
  isLoading: boolean;
  /** Whether there are older lines. */
  hasMore: boolean;
  /** Loads the next page of older lines. */
  more: () => void;
  /** After an error: reloads what could not be loaded. */
  retry: () => void;
}

/** Some lines without gaps, and where the lines before them begin. */
interface Run {
  listing: object;
  /** The same for lines that were joined to each other. */
  id: object;
  lines: readonly Transaction[];
  next: string | null;
}

interface Older extends Omit<Run, "listing"> {
  error: unknown;
  isLoading: boolean;
}

/** A user's history, page by page. A use of credits adds its line; the pages that were loaded stay. */
export function useHistory({ type = null, pageSize = 20, ...settings }: HistorySettings = {}): History {
  const { client, store } = useSettings(settings);
  const { version } = useSyncExternalStore(store.subscribe, () => store.state, () => store.state);
  const listing = useMemo(() => ({ limit: pageSize, ...(type && { type }) }), [client, type, pageSize]);
  const shown = useRef<Run | null>(null);
  const load = useCallback(
    async (signal: AbortSignal): Promise<Run> => {
      const { items, next_cursor } = await client.historyPage(listing, signal);
      return joined({ listing, id: {}, lines: items, next: next_cursor }, shown.current);
    },
    [client, listing, version],
  );
  const first = useLoaded(load);
  const [kept, setOlder] = useState<Older | null>(null);
  const older = kept && kept.id === first.value?.id ? kept : null;
  shown.current = first.value;
  const more = useCallback(async () => {
    const from = older ?? first.value;
    if (!from || from.next === null) return;
    const { id, next } = from;
    const lines = older?.lines ?? [];
    setOlder({ id, lines, next, error: null, isLoading: true });
    // By then, the older lines can be those of another choice.
    const end = (ended: Older) => setOlder((now) => (now?.id === id ? ended : now));
    try {
      const page = await client.historyPage({ ...listing, cursor: next });
      end({ id, lines: [...lines, ...page.items], next: page.next_cursor, error: null, isLoading: false });
    } catch (error) {
      end({ id, lines, next, error, isLoading: false });
    }
  }, [client, listing, first.value, older]);
  return {
    lines: [...(first.value?.lines ?? []), ...(older?.lines ?? [])],
    hasMore: ((older ?? first.value)?.next ?? null) !== null,
    error: first.error ?? older?.error,
    isLoading: first.isLoading || !!older?.isLoading,
    more: () => void more(),
    retry: () => (first.error ? store.refresh() : void more()),
  };
}

/** The newest page on top of the lines that are shown. Without a line in both, there may be others between them. */
function joined(newest: Run, shown: Run | null): Run {
  if (shown?.listing !== newest.listing) return newest;
  const place = newest.lines.findIndex(({ transaction_id }) => transaction_id === shown.lines[0]?.transaction_id);
  return place < 0 ? newest : { ...shown, lines: [...newest.lines.slice(0, place), ...shown.lines] };
}

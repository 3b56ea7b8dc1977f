import { createContext, useContext, useEffect, type ReactNode } from "react";
import type { CreditsClient } from "../client.js";
import { en } from "../texts/en.js";
import type { Texts } from "../texts/texts.js";
import { storeOf } from "./store.js";

/** The facts for a place that offers more credits. */
export interface Shortage {
  /** How many credits can be used now. */
  available: number;
  /** How many credits a refused use lacked; 0 without a refusal. */
  missing: number;
}

/** The settings of every component: from its own props or, if these leave something out, from the provider. */
export interface CreditsSettings {
  client?: CreditsClient | undefined;
  /** The language of numbers and dates; the default is that of `texts` or, without texts, the browser's. */
  locale?: string | undefined;
  /** All words; the default is English. Others: `credits-client/texts/de`, or your own. */
  texts?: Texts | undefined;
  /** The present time, in milliseconds; for tests and previews. */
  now?: (() => number) | undefined;
  /** What to show if credits have run out, are low, or do not suffice: a link to your shop, for example. */
  getMore?: ((shortage: Shortage) => ReactNode) | undefined;
  /** This many credits or fewer are low; the default is 0. */
  lowBalance?: number | undefined;
}

const Settings = createContext<CreditsSettings>({});

export interface CreditsProviderProps extends CreditsSettings {
  client: CreditsClient;
  children?: ReactNode;
}

/** Gives the components below it a client and their common settings. They reload whenever the page is looked at again. */
export function CreditsProvider({ children, ...settings }: CreditsProviderProps) {
  const { client } = settings;
  useEffect(() => {
    const look = () => document.visibilityState === "visible" && storeOf(client).refresh();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, [client]);
  return <Settings.Provider value={settings}>{children}</Settings.Provider>;
}

/** The settings of a component; throws if there is no client. */
export function useSettings(own: CreditsSettings) {
  const common = useContext(Settings);
  const client = own.client ?? common.client;
  if (!client) throw new Error("there is no client: put the component into a <CreditsProvider client={...}>, or give it client={...}");
  const texts = own.texts ?? common.texts;
  return {
    client,
    store: storeOf(client),
    texts: texts ?? en,
    locale: own.locale ?? common.locale ?? texts?.language,
    now: own.now ?? common.now ?? Date.now,
    getMore: own.getMore ?? common.getMore,
    lowBalance: own.lowBalance ?? common.lowBalance ?? 0,
  };
}

export type ResolvedSettings = ReturnType<typeof useSettings>;

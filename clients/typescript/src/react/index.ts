"use client";

export { en } from "../texts/en.js";
export type { Text, Texts } from "../texts/texts.js";
export { CreditsCard, type CreditsCardProps } from "./CreditsCard.js";
export { CreditsHistory, type CreditsHistoryProps } from "./CreditsHistory.js";
export { CreditsProvider, type CreditsProviderProps, type CreditsSettings, type Shortage } from "./CreditsProvider.js";
export { SpendButton, type SpendButtonProps } from "./SpendButton.js";
export type { SpendOptions, SpendRequest, SpendState, SpendStatus } from "./Spending.js";
export { useCredits, type Credits } from "./useCredits.js";
export { useForecast, type Outlook } from "./useForecast.js";
export { useHistory, type History, type HistorySettings } from "./useHistory.js";
export { useSpend, type Spend } from "./useSpend.js";

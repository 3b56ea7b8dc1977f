export { CreditsCard, type CreditsCardProps } from "./CreditsCard.js";
export { CreditsHistory, type CreditsHistoryProps } from "./CreditsHistory.js";

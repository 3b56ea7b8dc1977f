"""A stage that runs beside another system: how its ledgers compare with the movements of that."""

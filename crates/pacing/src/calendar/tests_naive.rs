//! The week limits once more, written to be read beside rules.md rather than to be fast: nothing is
//! remembered but what was asked, and a limit is the largest sum that breaks no sentence.

/// Which sentences a sum is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Average,
    Weekly,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) sort: Sort,
    pub(super) kopecks: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Set(Sum),
    Remove,
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    NoChange,
    TooMany,
}

/// A calendar week: the figure it began with and everything that was accepted since, in order.
#[derive(Debug, Clone)]
pub(super) struct Week {
    pub(super) at_monday: Option<Sum>,
    pub(super) accepted: Vec<(usize, Ask)>,
    /// The shares of a weekly sum, in percent: of a day, and of a day of restart.
    pub(super) shares: (i64, i64),
}

/// What a day looks like after the changes it has had.
pub(super) struct Story {
    day: usize,
    shares: (i64, i64),
    now: Option<Sum>,
    /// A decrease for tomorrow.
    later: Option<Sum>,
    /// Every sum that was in force on this day, the one in force now last.
    seen: Vec<Sum>,
    /// The day the segment began and whether a set or an increase began it.
    segment: (usize, bool),
}

impl Week {
    /// Tells the week from its Monday to the present state of a day.
    pub(super) fn story(&self, until: usize) -> Story {
        let mut now = self.at_monday;
        let (mut segment, mut later) = ((0, false), None);
        let mut seen = Vec::with_capacity(8);
        let mut asks = self.accepted.iter().peekable();
        for day in 0..=until {
            if later.is_some() {
                (now, segment) = (later, (day, false));
            }
            later = None;
            seen.clear();
            seen.extend(now);
            while let Some((_, ask)) = asks.next_if(|(on, _)| *on == day) {
                match (*ask, now) {
                    (Ask::Remove, _) => (now, later) = (None, None),
                    (Ask::Restart, _) => {
                        segment = (day, true);
                        seen.extend(now);
                    }
                    (Ask::Set(asked), Some(sum)) if asked == sum => later = None,
                    (Ask::Set(asked), Some(sum))
                        if sum.sort == Sort::Average
                            && asked.sort == Sort::Average
                            && asked.kopecks < sum.kopecks =>
                    {
                        later = Some(asked);
                    }
                    (Ask::Set(asked), _) => {
                        (now, later, segment) = (Some(asked), None, (day, true));
                        seen.push(asked);
                    }
                }
            }
        }
        Story { day: until, shares: self.shares, now, later, seen, segment }
    }

    pub(super) fn verdict(&self, day: usize, ask: Ask) -> Verdict {
        let Story { now, later, .. } = self.story(day);
        let changes = match ask {
            Ask::Set(asked) => later != Some(asked) && (now != Some(asked) || later.is_some()),
            Ask::Remove => now.is_some(),
            Ask::Restart => now.is_some_and(|sum| sum.sort == Sort::Weekly),
        };
        let counted =
            self.accepted.iter().filter(|(on, ask)| *on == day && *ask != Ask::Restart).count();
        match (changes, ask) {
            (false, _) => Verdict::NoChange,
            (true, Ask::Restart) => Verdict::Yes,
            (true, Ask::Set(_) | Ask::Remove) if counted == 3 => Verdict::TooMany,
            (true, Ask::Set(_) | Ask::Remove) => Verdict::Yes,
        }
    }

    /// The figure of the Monday after.
    pub(super) fn next_monday(&self) -> Option<Sum> {
        let sunday = self.story(6);
        sunday.later.or(sunday.now)
    }
}

impl Story {
    /// Whether the day may spend `micros` in all; `None` when there is nothing to obey.
    pub(super) fn permits(&self, spent: &[i64; 7], micros: i64) -> Option<bool> {
        let (day, sum, (start, raised)) = (self.day, self.now?, self.segment);
        let of = |sort| self.seen.iter().filter(move |sum| sum.sort == sort).map(|sum| sum.kopecks);
        let pot = sum.kopecks * 10_000;
        let since = |from: usize| spent[from..day].iter().sum::<i64>() + micros;
        // Part of a kopeck needs a whole one of the cap, for the cap is rounded down.
        let hundredths = (micros + 9_999) / 10_000 * 100;
        let (share, restart_share) = self.shares;
        let average_cap = || of(Sort::Average).any(|kopecks| hundredths <= 130 * kopecks);
        Some(match sum.sort {
            Sort::Average => {
                let days = i64::try_from(7 - start).unwrap();
                let no_tail = start == 0 || !raised || day == start;
                (average_cap() || of(Sort::Weekly).any(|old| hundredths <= restart_share * old))
                    && since(start) <= pot * days
                    && (no_tail || since(start + 1) <= pot * (days - 1))
            }
            Sort::Weekly => {
                let earlier = of(Sort::Weekly).count() - 1;
                let cap = match of(Sort::Weekly).take(earlier).max() {
                    None => share * sum.kopecks,
                    Some(old) => restart_share * (old + sum.kopecks),
                };
                (average_cap() || hundredths <= cap) && since(start) <= pot
            }
            Sort::Strict => micros <= pot,
        })
    }
}

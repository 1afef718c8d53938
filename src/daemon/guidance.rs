//! Guidance of a session's chunks by the previous one: real-time chunking.
//!
//! The new chunk's rows are aligned with the left-over of the previous one by the times of the two observations. How
//! many of them are past before it is played, the delay, is counted by the client, in memory that it may fill with
//! anything: what it reports is read once and checked.

use super::engine::CarryOver;
use crate::control::{GuidanceChoice, GuidanceSchedule, Guided};
use crate::model::{Rtc, RtcSchedule};
use crate::shm::{ChunkNotes, Playback, PlaybackReader, Submission, UNGUIDED};

/// Number of first rows, of as many chunks, that the delay is the largest of.
const DELAYS: usize = 5;
/// Chunks before the last one that may still be the one that is played: a guided one waits for its next row, and
/// another may have come meanwhile.
const BEHIND: u32 = 2;
/// Distance from a whole row, in rows, that is taken for none.
const WHOLE: f64 = 1e-3;

/// How chunks are guided, unless a session asks for something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// True if they are guided.
    pub enabled: bool,
    /// How the weight of the previous chunk falls from the delay on.
    pub schedule: RtcSchedule,
    /// Upper bound of the guidance weight.
    pub max_weight: f32,
    /// Rows that are kept beyond those counted as past: the two between which the robot is when the chunk takes over, or
    /// the first of them where the model was trained for it.
    pub margin_rows: u32,
    /// Rows beyond the delay over which the weight falls.
    pub horizon: u32,
    /// Compute the prefix for every so many chunks of a session only; 1: for every one.
    pub prefix_every: u32,
}

impl Default for Guidance {
    fn default() -> Self {
        let schedule = RtcSchedule::Linear;
        Guidance { enabled: true, schedule, max_weight: 10.0, margin_rows: 2, horizon: 10, prefix_every: 1 }
    }
}

impl Guidance {
    /// With what a session asks for.
    pub(super) fn chosen(self, choice: &GuidanceChoice) -> Guidance {
        let schedule = choice.schedule.map(|schedule| match schedule {
            GuidanceSchedule::Linear => RtcSchedule::Linear,
            GuidanceSchedule::Exponential => RtcSchedule::Exp,
            GuidanceSchedule::Ones => RtcSchedule::Ones,
            GuidanceSchedule::Zeros => RtcSchedule::Zeros,
        });
        Guidance {
            enabled: choice.enabled.unwrap_or(self.enabled),
            schedule: schedule.unwrap_or(self.schedule),
            max_weight: choice.max_weight.unwrap_or(self.max_weight),
            margin_rows: self.margin_rows,
            horizon: choice.horizon.unwrap_or(self.horizon),
            prefix_every: choice.prefix_every.unwrap_or(self.prefix_every),
        }
    }
}

/// A session's terms of guidance, settled when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GuidanceTerms {
    /// Choices of how chunks are guided.
    pub guidance: Guidance,
    /// Rows of a chunk per second, as the session plays them; None: nothing declares it.
    pub rate_hz: Option<f32>,
    /// Number of rows of a chunk.
    pub rows: usize,
    /// A chunk's results for the next one.
    pub carry_over: CarryOver,
}

/// Purpose of a chunk: its instruction, episode and flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// Number of the instruction.
    pub prompt_id: u32,
    /// True if the instruction is to take effect at once.
    pub flush: bool,
    /// Number of flushes of the session so far: none of the chunks from before the last one guides.
    pub flushes: u32,
    /// Number of the episode.
    pub episode: u32,
    /// Changes whenever chunks of before are no longer wanted.
    pub era: u32,
}

/// Plan of one chunk's guidance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Guided, or the reason why not.
    pub guided: Guided,
    /// Rows that will be past before the chunk is played.
    pub delay: u32,
    /// Row from which on the chunk is free.
    pub horizon: u32,
    /// Rows that are left of the previous chunk.
    pub left_over: u32,
}

impl Plan {
    fn none(guided: Guided) -> Plan {
        Plan { guided, delay: 0, horizon: 0, left_over: 0 }
    }

    /// The notes of its chunk, but for what is known of the prefix.
    #[inline]
    pub fn notes(&self, aim: &Aim) -> ChunkNotes {
        ChunkNotes {
            prompt_id: aim.prompt_id,
            episode: aim.episode,
            guidance: self.guided as u32,
            delay: self.delay,
            guidance_horizon: self.horizon,
            left_over: self.left_over,
            ..ChunkNotes::default()
        }
    }
}

/// The chunk published last.
struct Previous {
    /// Its number; 0: there is none.
    chunk: u64,
    observed_ns: u64,
    aim: Aim,
    /// As the model gave it, `[rows, width]`.
    normalized: Vec<f32>,
    /// The state it is relative to.
    reference: Vec<f32>,
}

/// Guidance of the chunks of one session. All its memory is allocated when the session is opened.
pub struct Guide {
    terms: GuidanceTerms,
    playback: PlaybackReader,
    previous: Previous,
    left_over: Vec<f32>,
    /// First rows of the chunks played last.
    delays: [u32; DELAYS],
    counted: usize,
    /// The chunk whose first row was counted last, in its low 32 bits.
    counted_of: Option<u32>,
}

impl Guide {
    /// A guide that has seen no chunk.
    pub fn new(terms: GuidanceTerms, playback: PlaybackReader) -> Guide {
        let values = terms.rows * terms.carry_over.width;
        let previous = Previous {
            chunk: 0,
            observed_ns: 0,
            aim: Aim::default(),
            normalized: vec![0.0; values],
            reference: vec![0.0; terms.carry_over.reference],
        };
        let (left_over, delays) = (vec![0.0; values], [0; DELAYS]);
        Guide { terms, playback, previous, left_over, delays, counted: 0, counted_of: None }
    }

    /// Rows of a chunk per second, as the session plays them; None: nothing declares it.
    pub fn rate_hz(&self) -> Option<f32> {
        self.terms.rate_hz
    }

    /// Chunks of this session that the prefix is computed for once; 1: for each.
    pub fn prefix_every(&self) -> u32 {
        self.terms.guidance.prefix_every
    }

    /// Decides whether a chunk is guided, and prepares the left-over. Allocates nothing.
    #[inline]
    pub fn plan(&mut self, submission: &Submission, aim: &Aim) -> Plan {
        let GuidanceTerms { guidance, carry_over, .. } = &self.terms;
        if !guidance.enabled || submission.flags & UNGUIDED != 0 || carry_over.width == 0 {
            return Plan::none(Guided::Off);
        }
        match self.look(submission, aim) {
            Ok(plan) => plan,
            Err(unguided) => Plan::none(unguided),
        }
    }

    /// The plan where guidance is wanted.
    ///
    /// # Errors
    /// Why the chunk can't be guided.
    fn look(&mut self, submission: &Submission, aim: &Aim) -> Result<Plan, Guided> {
        let GuidanceTerms { guidance, rate_hz, rows, carry_over } = self.terms;
        if let Some(unguided) = carry_over.unguided {
            return Err(unguided);
        }
        let rate_hz = rate_hz.ok_or(Guided::NoRate)?;
        let previous = &self.previous;
        if previous.chunk == 0 || previous.aim.era != aim.era {
            return Err(Guided::FirstChunk);
        }
        let is_other_prompt = aim.flush && aim.prompt_id != previous.aim.prompt_id;
        if is_other_prompt || aim.flushes != previous.aim.flushes {
            return Err(Guided::Flushed);
        }
        let observed_ns = previous.observed_ns;
        let delay = self.delay(self.playback.read())?;
        let ns = i128::from(submission.observed_ns) - i128::from(observed_ns);
        let begin = ns as f64 * 1e-9 * f64::from(rate_hz);
        let begin = if (begin - begin.round()).abs() < WHOLE { begin.round() } else { begin };
        let last = (rows - 1) as f64;
        if !(0.0..=last).contains(&begin) {
            return Err(Guided::NoLeftOver);
        }
        let left = (last - begin) as usize + 1;
        self.resample(begin, left);
        let rows = rows as u32;
        let (delay, horizon) = match carry_over.trained_delay {
            None => {
                let delay = delay.saturating_add(guidance.margin_rows).clamp(1, rows);
                (delay, delay.saturating_add(guidance.horizon).min(rows))
            }
            // Beyond what the model was trained for, rows are free: it has never seen so long a prefix.
            Some(most) => {
                // The row at which the chunk takes over is one that it is given: a free one may lie elsewhere.
                let delay = delay.saturating_add(guidance.margin_rows.min(1)).clamp(1, rows);
                let delay = delay.min(most).min(left as u32);
                (delay, delay)
            }
        };
        Ok(Plan { guided: Guided::Guided, delay, horizon, left_over: left as u32 })
    }

    /// The delay: the largest of the first rows counted last, this one included.
    ///
    /// # Errors
    /// The client plays another chunk, or reports what can't be.
    fn delay(&mut self, playback: Playback) -> Result<u32, Guided> {
        let Playback { chunk, rows_begun, first_of, first_row } = playback;
        if playback == Playback::default() {
            return Err(Guided::NotPlayed);
        }
        let rows = self.terms.rows as u32;
        // How many chunks before the last one; None: after it, or before the first.
        let before = |number: u32| {
            let before = (self.previous.chunk as u32).wrapping_sub(number);
            (before <= u32::MAX / 2 && u64::from(before) < self.previous.chunk).then_some(before)
        };
        let (Some(chunk_before), Some(first_before)) = (before(chunk), before(first_of)) else {
            return Err(Guided::PlaybackWrong);
        };
        if rows_begun > rows || first_row >= rows {
            return Err(Guided::PlaybackWrong);
        }
        // The last one may not be played yet: it will take over from one before it.
        if chunk_before > BEHIND || first_before > BEHIND {
            return Err(Guided::NotPlayed);
        }
        if self.counted_of != Some(first_of) {
            self.counted_of = Some(first_of);
            self.delays[self.counted % DELAYS] = first_row;
            self.counted += 1;
        }
        Ok(self.delays[..self.counted.min(DELAYS)].iter().copied().max().unwrap_or(0))
    }

    /// The left-over: `count` rows of the previous chunk from row `begin` on, which may lie between two.
    fn resample(&mut self, begin: f64, count: usize) {
        let width = self.terms.carry_over.width;
        let (first, part) = (begin as usize, begin.fract());
        let row = |row: usize| &self.previous.normalized[row * width..(row + 1) * width];
        for (i, out) in self.left_over.chunks_exact_mut(width).take(count).enumerate() {
            if part == 0.0 {
                out.copy_from_slice(row(first + i));
                continue;
            }
            // `count` leaves a row after each.
            for ((out, a), b) in out.iter_mut().zip(row(first + i)).zip(row(first + i + 1)) {
                *out = (f64::from(*a) + (f64::from(*b) - f64::from(*a)) * part) as f32;
            }
        }
    }

    /// The engine's guidance for a plan, and the state that it is relative to.
    #[inline]
    pub fn rtc(&self, plan: &Plan) -> Option<(Rtc<'_>, &[f32])> {
        if plan.guided != Guided::Guided {
            return None;
        }
        let Guidance { schedule, max_weight, .. } = self.terms.guidance;
        let max_weight = self.terms.carry_over.only_weight.unwrap_or(max_weight);
        let (delay, horizon) = (plan.delay as usize, plan.horizon as usize);
        let left_over = &self.left_over[..plan.left_over as usize * self.terms.carry_over.width];
        Some((Rtc { left_over, delay, horizon, max_weight, schedule }, &self.previous.reference))
    }

    /// Keeps a chunk that was published. Allocates nothing.
    pub fn keep(&mut self, chunk: u64, observed_ns: u64, aim: Aim, [normalized, reference]: [&[f32]; 2]) {
        let previous = &mut self.previous;
        // Also the padding guides, and was not published: the next chunk begins anew after one that can't.
        let is_finite = normalized.iter().all(|value| value.is_finite());
        let chunk = if is_finite { chunk } else { 0 };
        (previous.chunk, previous.observed_ns, previous.aim) = (chunk, observed_ns, aim);
        previous.normalized.copy_from_slice(normalized);
        previous.reference.copy_from_slice(reference);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::shm::{PlaybackWriter, Words};

    const RATE: f32 = 50.0;
    const ROW: u64 = 20_000_000;
    const T: u64 = 1_000_000_000_000;

    fn terms() -> GuidanceTerms {
        let carry_over = CarryOver { width: 2, reference: 1, ..CarryOver::default() };
        let guidance = Guidance { margin_rows: 0, ..Guidance::default() };
        GuidanceTerms { guidance, rate_hz: Some(RATE), rows: 6, carry_over }
    }

    fn guide(terms: GuidanceTerms) -> (Guide, PlaybackWriter, Words) {
        let (words, peer) = Words::private(8);
        let raw = words.alias();
        (Guide::new(terms, PlaybackReader::new(peer)), PlaybackWriter::new(words), raw)
    }

    fn aim() -> Aim {
        Aim { prompt_id: 1, flush: false, flushes: 0, episode: 3, era: 3 }
    }

    fn at(rows: f64) -> Submission {
        Submission { observed_ns: T + (rows * ROW as f64) as u64, ..Submission::default() }
    }

    /// One that has published this chunk: row r is [r, 10 r].
    fn published(guide: &mut Guide, chunk: u64) {
        let rows: Vec<f32> = (0..6).flat_map(|row| [row as f32, 10.0 * row as f32]).collect();
        guide.keep(chunk, T, aim(), [&rows, &[0.5]]);
    }

    fn left_over(guide: &Guide, plan: &Plan) -> Vec<f32> {
        guide.rtc(plan).unwrap().0.left_over.to_vec()
    }

    #[test]
    fn rows_between_which_the_robot_is_are_kept_too() {
        let mut terms = terms();
        terms.guidance.margin_rows = 2;
        let (mut guide, player, _) = guide(terms);
        published(&mut guide, 7);
        player.begin(7, 2);
        let plan = guide.plan(&at(1.0), &aim());
        assert_eq!((plan.delay, plan.horizon), (4, 6));
        // Never more than there are.
        terms.guidance.margin_rows = u32::MAX;
        let (mut guide, player, _) = self::guide(terms);
        published(&mut guide, 7);
        player.begin(7, 2);
        assert_eq!(guide.plan(&at(1.0), &aim()).delay, 6);
    }

    #[test]
    fn rows_are_aligned_by_time_and_the_delay_is_what_was_counted() {
        let (mut guide, player, _) = guide(terms());
        published(&mut guide, 7);
        player.begin(7, 2);
        let plan = guide.plan(&at(3.0), &aim());
        assert_eq!(plan, Plan { guided: Guided::Guided, delay: 2, horizon: 6, left_over: 3 });
        assert_eq!(left_over(&guide, &plan), [3.0, 30.0, 4.0, 40.0, 5.0, 50.0]);
        let (rtc, anchor) = guide.rtc(&plan).unwrap();
        assert_eq!((rtc.delay, rtc.horizon, rtc.max_weight, anchor), (2, 6, 10.0, &[0.5][..]));
        // A thousandth of a row is none; a quarter is between two.
        let plan = guide.plan(&at(2.9995), &aim());
        assert_eq!(left_over(&guide, &plan)[0], 3.0);
        let plan = guide.plan(&at(2.25), &aim());
        assert_eq!(left_over(&guide, &plan), [2.25, 22.5, 3.25, 32.5, 4.25, 42.5]);
        // The whole chunk, its last row, and neither before nor after.
        assert_eq!(guide.plan(&at(0.0), &aim()).left_over, 6);
        assert_eq!(guide.plan(&at(5.0), &aim()).left_over, 1);
        for rows in [5.01, 6.0, 1e9] {
            assert_eq!(guide.plan(&at(rows), &aim()), Plan::none(Guided::NoLeftOver));
        }
        let before = Submission { observed_ns: T - ROW, ..Submission::default() };
        assert_eq!(guide.plan(&before, &aim()).guided, Guided::NoLeftOver);
        for observed_ns in [0, u64::MAX] {
            let submission = Submission { observed_ns, ..Submission::default() };
            assert_eq!(guide.plan(&submission, &aim()).guided, Guided::NoLeftOver);
        }
    }

    #[test]
    fn rows_that_the_model_takes_as_they_are_are_no_more_than_it_was_trained_for_or_are_left() {
        let carry_over = CarryOver { trained_delay: Some(3), ..terms().carry_over };
        for (first_row, observed, delay, left_over) in
            [(0, 1.0, 1, 5), (2, 1.0, 2, 5), (5, 1.0, 3, 5), (5, 4.0, 2, 2)]
        {
            let (mut guide, player, _) = guide(GuidanceTerms { carry_over, ..terms() });
            published(&mut guide, 7);
            player.begin(7, first_row);
            let plan = guide.plan(&at(observed), &aim());
            assert_eq!(plan, Plan { guided: Guided::Guided, delay, horizon: delay, left_over });
        }
    }

    /// Without a margin as lerobot counts, else with the row at which the chunk takes over.
    #[test]
    fn of_a_margin_what_a_model_was_trained_for_takes_one_row() {
        let carry_over = CarryOver { trained_delay: Some(5), ..terms().carry_over };
        for (margin_rows, delay) in [(0, 2), (1, 3), (2, 3), (u32::MAX, 3)] {
            let guidance = Guidance { margin_rows, ..terms().guidance };
            let (mut guide, player, _) = guide(GuidanceTerms { guidance, carry_over, ..terms() });
            published(&mut guide, 7);
            player.begin(7, 2);
            let plan = guide.plan(&at(1.0), &aim());
            assert_eq!((plan.delay, plan.horizon), (delay, delay), "margin {margin_rows}");
        }
    }

    /// Padding is not published, so the check before publishing doesn't see it.
    #[test]
    fn a_chunk_that_is_not_finite_guides_nothing() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut guide, player, _) = guide(terms());
            published(&mut guide, 1);
            player.begin(1, 0);
            assert_eq!(guide.plan(&at(1.0), &aim()).guided, Guided::Guided);
            let mut rows = [0.5; 12];
            rows[11] = wrong;
            guide.keep(2, T, aim(), [&rows, &[0.5]]);
            player.begin(2, 0);
            assert_eq!(guide.plan(&at(1.0), &aim()), Plan::none(Guided::FirstChunk), "{wrong}");
            published(&mut guide, 3);
            player.begin(3, 0);
            assert_eq!(guide.plan(&at(1.0), &aim()).guided, Guided::Guided);
        }
    }

    #[test]
    fn a_horizon_of_one_row_guides_at_its_own_moment_only() {
        let (mut guide, player, _) = guide(GuidanceTerms { rows: 1, ..terms() });
        guide.keep(1, T, aim(), [&[0.5, 5.0], &[0.5]]);
        player.begin(1, 0);
        let plan = guide.plan(&at(0.0), &aim());
        assert_eq!(plan, Plan { guided: Guided::Guided, delay: 1, horizon: 1, left_over: 1 });
        assert_eq!(left_over(&guide, &plan), [0.5, 5.0]);
        assert_eq!(guide.plan(&at(0.5), &aim()).guided, Guided::NoLeftOver);
        // The first row can't have been past.
        player.begin(1, 1);
        assert_eq!(guide.plan(&at(0.0), &aim()).guided, Guided::PlaybackWrong);
    }

    #[test]
    fn the_delay_is_the_largest_of_five_and_at_least_one() {
        let (mut guide, player, _) = guide(terms());
        let delays = [0, 4, 0, 1, 1, 0, 0];
        let mut found = Vec::new();
        for (chunk, first_row) in (1..).zip(delays) {
            published(&mut guide, chunk);
            player.begin(chunk, first_row);
            // However often it is looked at.
            guide.plan(&at(1.0), &aim());
            found.push(guide.plan(&at(1.0), &aim()).delay);
        }
        assert_eq!(found, [1, 4, 4, 4, 4, 4, 1]);
    }

    #[test]
    fn what_keeps_a_chunk_from_being_guided_is_said() {
        let because = |terms: GuidanceTerms, submission: &Submission, aim: &Aim| {
            let (mut guide, player, _) = guide(terms);
            published(&mut guide, 1);
            player.begin(1, 0);
            let plan = guide.plan(submission, aim);
            assert!(guide.rtc(&plan).is_some() == (plan.guided == Guided::Guided));
            plan.guided
        };
        let (some, terms) = (at(1.0), terms());
        assert_eq!(because(terms, &some, &aim()), Guided::Guided);
        let off = GuidanceTerms { guidance: Guidance { enabled: false, ..terms.guidance }, ..terms };
        assert_eq!(because(off, &some, &aim()), Guided::Off);
        assert_eq!(because(terms, &Submission { flags: UNGUIDED, ..some }, &aim()), Guided::Off);
        assert_eq!(because(GuidanceTerms { rate_hz: None, ..terms }, &some, &aim()), Guided::NoRate);
        assert_eq!(because(terms, &some, &Aim { era: 4, ..aim() }), Guided::FirstChunk);
        assert_eq!(because(terms, &some, &Aim { prompt_id: 2, ..aim() }), Guided::Guided);
        assert_eq!(because(terms, &some, &Aim { prompt_id: 2, flush: true, ..aim() }), Guided::Flushed);
        assert_eq!(because(terms, &some, &Aim { flush: true, ..aim() }), Guided::Guided);
        assert_eq!(because(terms, &some, &Aim { flushes: 1, ..aim() }), Guided::Flushed);
        let unguided = Some(Guided::ActionSpace);
        let carry_over = CarryOver { unguided, ..terms.carry_over };
        assert_eq!(because(GuidanceTerms { carry_over, ..terms }, &some, &aim()), Guided::ActionSpace);
        let (mut guide, player, _) = guide(terms);
        player.begin(1, 0);
        assert_eq!(guide.plan(&some, &aim()).guided, Guided::FirstChunk);
        published(&mut guide, 9);
        assert_eq!(guide.plan(&some, &aim()).guided, Guided::NotPlayed);
    }

    #[test]
    fn a_client_that_reports_what_cannot_be_gets_no_guidance() {
        let (mut guide, _, words) = guide(terms());
        published(&mut guide, 1 << 32 | 5);
        let mut report = |chunk: u32, rows: u32, first_of: u32, first_row: u32| {
            let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            words.store(0, word(chunk, rows), crate::shm::sync::Ordering::Relaxed);
            words.store(1, word(first_of, first_row), crate::shm::sync::Ordering::Relaxed);
            guide.plan(&at(1.0), &aim()).guided
        };
        assert_eq!(report(0, 0, 0, 0), Guided::NotPlayed);
        assert_eq!(report(5, 6, 5, 5), Guided::Guided);
        assert_eq!(report(4, 6, 4, 0), Guided::Guided);
        assert_eq!(report(3, 6, 3, 0), Guided::Guided);
        assert_eq!(report(2, 6, 2, 0), Guided::NotPlayed);
        for wrong in [(5, 7, 5, 0), (5, 1, 5, 6), (6, 1, 5, 0), (5, 1, 6, 0), (5, u32::MAX, 5, u32::MAX)] {
            assert_eq!(report(wrong.0, wrong.1, wrong.2, wrong.3), Guided::PlaybackWrong, "{wrong:?}");
        }
        // Nothing of it was counted.
        assert_eq!(report(5, 1, 5, 5), Guided::Guided);
    }

    #[test]
    fn no_words_whatever_harm() {
        use proptest::prelude::*;
        proptest!(|(words in any::<[u64; 2]>(), last in 1u64..1 << 40, observed_ns in any::<u64>(), rate in 1e-3f32..1e5)| {
            let (mut guide, _, raw) = guide(GuidanceTerms { rate_hz: Some(rate), ..terms() });
            published(&mut guide, last);
            raw.write(0, &words);
            let plan = guide.plan(&Submission { observed_ns, ..Submission::default() }, &aim());
            if let Some((rtc, _)) = guide.rtc(&plan) {
                prop_assert!((1..=6).contains(&rtc.delay) && rtc.horizon <= 6);
                prop_assert!((2..=12).contains(&rtc.left_over.len()));
            }
        });
    }

    #[test]
    fn a_session_s_choice_comes_before_the_configuration() {
        let all = GuidanceChoice {
            enabled: Some(false),
            schedule: Some(GuidanceSchedule::Zeros),
            max_weight: Some(2.0),
            horizon: Some(3),
            prefix_every: Some(4),
            rate_hz: None,
        };
        let (enabled, schedule) = (false, RtcSchedule::Zeros);
        let chosen = Guidance {
            enabled,
            schedule,
            max_weight: 2.0,
            horizon: 3,
            prefix_every: 4,
            ..Guidance::default()
        };
        assert_eq!(Guidance::default().chosen(&all), chosen);
        assert_eq!(chosen.chosen(&GuidanceChoice::default()), chosen);
    }
}

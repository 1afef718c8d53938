//! The findings of checks, with their remedies.

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Subject of the check: `socket`, `checkpoint` and so on.
    pub topic: &'static str,
    /// The result.
    pub verdict: Verdict,
    /// The finding, with its path or process.
    pub what: String,
    /// Advice on how to fix it; empty if there is nothing to do.
    pub remedy: String,
}

impl Check {
    /// True for a problem or a note: anything but [`Verdict::Ok`].
    pub fn is_finding(&self) -> bool {
        self.verdict != Verdict::Ok
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to report.
    Ok,
    /// A fact worth knowing.
    Note,
    /// Works, but not at its best, or not certainly.
    Warning,
    /// Keeps the daemon from serving or a client from connecting.
    Error,
}

impl Verdict {
    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Collects the checks of one topic.
pub struct Checks<'a> {
    /// The topic.
    pub topic: &'static str,
    /// The list that checks are added to.
    pub all: &'a mut Vec<Check>,
}

impl Checks<'_> {
    /// Adds a check.
    pub fn add(&mut self, verdict: impl Into<Verdict>, what: impl Into<String>, remedy: impl Into<String>) {
        let (verdict, what, remedy) = (verdict.into(), what.into(), remedy.into());
        self.all.push(Check { topic: self.topic, verdict, what, remedy });
    }

    /// Adds an error.
    pub fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Error, what, remedy);
    }

    /// Adds a warning.
    pub fn warn(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Warning, what, remedy);
    }

    /// Adds a fact worth knowing.
    pub fn note(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Note, what, remedy);
    }

    /// Adds a check without a finding.
    pub fn ok(&mut self, what: impl Into<String>) {
        self.add(Verdict::Ok, what, "");
    }
}

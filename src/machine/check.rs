//! What was found wrong, and how to mend it.

/// One thing that was checked, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about: `socket`, `checkpoint` and so on.
    pub topic: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found, with path or process.
    pub what: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}

impl Check {
    /// Whether it found something: anything but [`Verdict::Ok`].
    pub fn is_finding(&self) -> bool {
        self.verdict != Verdict::Ok
    }
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// A fact worth knowing.
    Note,
    /// Works, but not as well as it could, or not for certain.
    Warning,
    /// Keeps the daemon from serving, or a client from being served.
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

/// Checks of one topic.
pub struct Checks<'a> {
    /// The topic.
    pub topic: &'static str,
    /// Where they are added.
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

    /// Adds a check that found nothing.
    pub fn ok(&mut self, what: impl Into<String>) {
        self.add(Verdict::Ok, what, "");
    }
}

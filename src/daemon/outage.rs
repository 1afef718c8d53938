//! Failures that last: the first one is news.

/// Tells the first failure of an outage from those that follow, for something that is attempted again and again.
#[derive(Default)]
pub(crate) struct Outage {
    lasts: bool,
}

impl Outage {
    /// The error of an attempt, unless the attempt before it has failed, too.
    pub fn news<E>(&mut self, attempt: Result<(), E>) -> Option<E> {
        let error = attempt.err();
        let lasted = std::mem::replace(&mut self.lasts, error.is_some());
        error.filter(|_| !lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outage_is_news_once() {
        let mut outage = Outage::default();
        let attempts = [Ok(()), Err(1), Err(2), Err(3), Ok(()), Ok(()), Err(4), Ok(()), Err(5)];
        let news = attempts.map(|attempt| outage.news(attempt));
        assert_eq!(news, [None, Some(1), None, None, None, None, Some(4), None, Some(5)]);
    }
}

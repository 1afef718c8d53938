//! Content of the statistics page.

use super::super::accounts::Resource;
use super::super::page::{SessionReport, UserReport};
use super::state::Control;
use crate::control::Guided;
use crate::shm::clock::now_ns;
use crate::shm::{Count, LatencyKind};

impl<P: Send + Sync + 'static> Control<P> {
    /// Writes the statistics page.
    pub(super) fn write_page(&mut self) {
        let report = &mut self.report;
        let table = self.shared.lock();
        report.stats = table.ended.clone();
        report.memory = self.accounts.taken(Resource::Memory);
        self.accounts.usage(&mut self.usage);
        report.users.clear();
        report.users.extend(self.usage.iter().map(UserReport::of));
        if let Some(left_out) = self.options.left_out_of_log {
            report.users.iter_mut().for_each(|user| user.left_out = left_out(user.uid));
        }
        report.sessions.clear();
        for session in &table.sessions {
            let counted = session.channel.stats.stats();
            report.stats.add(counted);
            report.sessions.push(SessionReport {
                id: session.id,
                pid: session.peer.pid,
                uid: session.peer.uid,
                opened_ns: session.opened_ns,
                submitted: counted.count(Count::Submitted),
                published: counted.count(Count::Published),
                missed_deadlines: counted.count(Count::MissedDeadline),
                answered_ns: session.channel.answered_ns,
                guidance: Guided::from_number(session.last_notes.guidance),
                prefix_age: session.last_notes.prefix_age,
            });
        }
        report.stopping = table.stopping;
        report.last_invalid = table.last_invalid;
        drop(table);
        let activity = &self.heartbeat.activity;
        report.busy_since_ns = activity.busy_since_ns();
        report.no_progress_ns = Some(activity.no_progress_ns());
        let chunk_ns = report.stats.latency(LatencyKind::Inference).p50_ns;
        activity.set_chunks(report.stats.count(Count::Published), chunk_ns);
        report.written_ns = now_ns();
        self.page.write(report);
    }
}

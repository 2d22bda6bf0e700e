//! Figures: percentiles, a straight line through samples, and what a process holds.

use std::fmt;
use std::path::Path;

/// How long something took, and in which period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) period: u32,
    pub(crate) micros: u32,
}

/// Times in order.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Of milliseconds.
    pub(crate) fn new(millis: impl IntoIterator<Item = f64>) -> Self {
        let mut times: Vec<f64> = millis.into_iter().collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds; 0 of nothing.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0.get(at.saturating_sub(1).min(last)).copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }
}

/// The slope of the straight line through points, and half of its 95 % interval.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    // 1.96 and a little: the soak has dozens of points.
    const QUANTILE: f64 = 2.02;
    if points.len() < 5 {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let residue = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum::<f64>();
    Some((slope, QUANTILE * (residue / (count - 2.0) / spread).sqrt()))
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) tasks: usize,
    pub(crate) watches: usize,
}

impl Held {
    /// By the process of this id, which says itself how many tasks it has.
    pub(crate) fn by(id: u32, tasks: usize) -> Self {
        let process = Path::new("/proc").join(id.to_string());
        let count = |folder: &str| std::fs::read_dir(process.join(folder)).expect("a process of ours").count();
        let infos = std::fs::read_dir(process.join("fdinfo")).expect("a process of ours");
        let texts = infos.filter_map(|info| std::fs::read_to_string(info.ok()?.path()).ok());
        let watches = texts.map(|text| text.lines().filter(|line| line.starts_with("inotify wd:")).count()).sum();
        Self { descriptors: count("fd"), threads: count("task"), tasks, watches }
    }

    /// Of each the lesser.
    pub(crate) fn least(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.min(other.descriptors),
            threads: self.threads.min(other.threads),
            tasks: self.tasks.min(other.tasks),
            watches: self.watches.min(other.watches),
        }
    }

    /// Whether nothing is more than `before`.
    pub(crate) fn is_within(&self, before: &Self) -> bool {
        let Self { descriptors, threads, tasks, watches } = *before;
        self.descriptors <= descriptors && self.threads <= threads && self.tasks <= tasks && self.watches <= watches
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, tasks, watches } = self;
        write!(f, "{descriptors} fds, {threads} threads, {tasks} tasks, {watches} watches")
    }
}

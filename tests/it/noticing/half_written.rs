//! Files that are written slowly: nothing is live before the writer is done.

use std::time::Duration;

use super::{By, Host, Layout, SWAPS, figures};
use crate::support::{Dribble, rounds, say};

/// Shorter and longer than the 50 ms for which a file must hold still; the long one comes once in a file.
const PAUSES_MS: [u64; 6] = [10, 70, 20, 200, 0, 110];
const LONG_PAUSE: Duration = Duration::from_millis(1500);

/// The text in parts with a pause before each: line by line, since a file that ends with a line is most likely to be a
/// valid one, or in pieces of a few bytes.
fn dribble(text: &str, time: usize) -> Vec<(Duration, &[u8])> {
    let pieces: Vec<&[u8]> = match time % 3 {
        0 => text.as_bytes().chunks(3).collect(),
        _ => text.split_inclusive('\n').map(str::as_bytes).collect(),
    };
    let long_at = time * 7 % pieces.len();
    let pause = |at: usize| match (at == long_at, time % 3) {
        (true, _) => LONG_PAUSE,
        (false, 0) => Duration::from_millis(10),
        (false, _) => Duration::from_millis(PAUSES_MS[(at + time) % PAUSES_MS.len()]),
    };
    pieces.into_iter().enumerate().map(|(at, piece)| (pause(at), piece)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_is_written_slowly_only_the_whole_is_live() {
    const HOSTS: usize = 5;
    let times = rounds("WASHLET_TEST_SWAPS", SWAPS).div_ceil(5 * HOSTS);
    let of_host = async |nth: usize| {
        let mut host = Host::start(By::Events, Layout::Plain).await;
        let mut took = Vec::new();
        for time in 0..times {
            let time = time * HOSTS + nth;
            let how = [Dribble::Truncated, Dribble::Created][time % 2];
            // It fails over any other attempt, applied or refused.
            took.push(host.edit_slowly(how, |text| dribble(text, time)).await);
        }
        assert_eq!(host.status().await["config"]["generation"], 1 + times, "nothing else was ever live");
        host.finish().await;
        took
    };
    // Side by side, for they mostly wait.
    let took = futures::future::join_all((0..HOSTS).map(of_host)).await.concat();
    say(&figures("slow writes, from the last byte", took));
}

//! All or nothing, in order, one at a time.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::fake::{Does, Rig};
use super::seen;
use super::walk::log::Captured;
use crate::error::Blame;
use crate::reload::*;

fn errors(outcome: &ReloadOutcome) -> Vec<&str> {
    outcome.errors().iter().map(|fault| fault.line.as_str()).collect()
}

#[tokio::test]
async fn the_start_prepares_every_section_in_order_and_then_commits_them_in_order() {
    let rig = Rig::new("a", &["log", "http"]);
    let first = rig.reloader.first().await.unwrap();
    assert_eq!((first.n, first.outcome, first.trigger), (1, Outcome::Applied, Trigger::Start));
    assert_eq!(rig.diary.take(), ["read", "prepare log", "prepare http", "commit log", "commit http"]);
    assert_eq!(first.generation.get(), 1);
    assert_eq!(rig.group(), "a");
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_ends_the_task() {
    let rig = Rig::new("wrong", &["log"]);
    let first = rig.reloader.first().await.unwrap();
    let rejection = first.rejection.clone().unwrap();
    assert_eq!((rejection.reason, rejection.blame), (Reason::Invalid, Blame::Configuration));
    assert_eq!(errors(&first), ["a.toml:1:1: wrong", "a.toml:2:1: wrong too"]);
    let mut live = rig.reloader.live();
    while live.changed().await.is_ok() {}
    assert_eq!(rig.reloader.trigger(Trigger::Request).await.unwrap_err(), TriggerError::TaskGone);
}

#[tokio::test]
async fn whatever_goes_wrong_in_any_section_nothing_changes_and_what_was_built_goes_in_reverse() {
    for (does, passing) in [(Does::Fail, false), (Does::Panic, false), (Does::Hang, true), (Does::FailForNow, true)] {
        let rig = Rig::start("a", &["one", "two", "three"]).await;
        rig.sections[2].set(does);
        rig.write("b");
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Outcome::Rejected, "{does:?}");
        let rejection = outcome.rejection.clone().unwrap();
        assert_eq!((rejection.reason, rejection.passing), (Reason::Prepare, passing), "{does:?}");
        assert!(errors(&outcome)[0].starts_with("three: "), "{:?}", errors(&outcome));
        let steps = ["read", "prepare one", "prepare two", "prepare three", "drop two", "drop one"];
        assert_eq!(rig.diary.take(), steps, "{does:?}");
        assert_eq!((rig.group().as_str(), outcome.generation.get()), ("a", 1));

        rig.sections[2].set(Does::Prepare);
        rig.write("c");
        let outcome = rig.reload().await;
        assert_eq!((outcome.outcome, outcome.generation.get()), (Outcome::Applied, 2), "{does:?}");
        assert_eq!(rig.group(), "c");
    }
}

#[tokio::test]
async fn sections_with_nothing_to_do_are_neither_committed_nor_retired() {
    let rig = Rig::start("a", &["one", "two"]).await;
    rig.sections[0].set(Does::Nothing);
    rig.write("b");
    let outcome = rig.reload().await;
    assert_eq!(outcome.changed, [Change { key: "host.group".to_owned(), verb: "set" }]);
    assert_eq!(rig.diary.take(), ["read", "prepare one", "prepare two", "commit two"]);
}

#[tokio::test]
async fn unchanged_input_is_a_silent_check_unless_somebody_asks() {
    let rig = Rig::start("a", &["one"]).await;
    assert_eq!(rig.reload().await.outcome, Outcome::Unchanged);
    assert_eq!(rig.diary.take(), ["read"]);
    // Nobody waits for a hint, so it is sent as one.
    let hint = inbox::ReloadRequest { trigger: Trigger::Watch, answer_tx: None };
    rig.reloader.requests_tx.send(hint).await.unwrap();
    let mut status = rig.reloader.status();
    seen(&mut status, |status| (status.checks.get(&Trigger::Watch) == Some(&1)).then_some(())).await;
    assert_eq!(status.borrow().attempts.len(), 2);
    assert_eq!(rig.diary.take(), ["read"]);
}

#[tokio::test]
async fn text_that_means_the_same_is_unchanged_and_prepares_nothing() {
    let rig = Rig::start("a", &["one"]).await;
    rig.write(" a \n");
    assert_eq!(rig.reload().await.outcome, Outcome::Unchanged);
    assert_eq!(rig.diary.take(), ["read"]);
}

#[tokio::test]
async fn going_back_to_the_running_input_clears_a_failure() {
    let rig = Rig::start("a", &["one"]).await;
    rig.write("wrong");
    assert_eq!(rig.reload().await.outcome, Outcome::Rejected);
    assert!(!rig.reloader.status().borrow().last_ok());
    rig.write("a");
    assert_eq!(rig.reload().await.outcome, Outcome::Unchanged);
    assert!(rig.reloader.status().borrow().last_ok());
    rig.remove();
    let outcome = rig.reload().await;
    assert_eq!(outcome.rejection.as_ref().map(|rejection| rejection.reason), Some(Reason::Missing));
    assert_eq!(rig.group(), "a");
}

#[tokio::test]
async fn a_loader_that_panics_is_a_rejection() {
    let rig = Rig::start("a", &["one"]).await;
    rig.write("panic");
    let outcome = rig.reload().await;
    assert_eq!(outcome.rejection.as_ref().map(|rejection| rejection.blame), Some(Blame::Host));
    rig.write("b");
    assert_eq!(rig.reload().await.outcome, Outcome::Applied);
}

#[tokio::test]
async fn losing_a_role_is_refused_before_anything_is_prepared() {
    let rig = Rig::start("listen", &["one"]).await;
    rig.write("b");
    let outcome = rig.reload().await;
    assert_eq!(outcome.rejection.as_ref().map(|rejection| rejection.reason), Some(Reason::Guard));
    assert!(errors(&outcome)[0].starts_with("http.listen is live and gone"));
    assert_eq!(rig.diary.take(), ["read"]);
}

#[tokio::test]
async fn a_hundred_requests_during_an_attempt_are_one_more_attempt() {
    let rig = Rig::start("patient a", &["one"]).await;
    rig.sections[0].set(Does::WaitForGate);
    rig.write("patient b");
    let mut under_way = Box::pin(rig.reloader.trigger(Trigger::Request));
    assert!(futures::poll!(&mut under_way).is_pending());
    rig.diary.wait_for("prepare one").await;
    let mut asked = Vec::new();
    while asked.len() < 100 {
        let mut request = Box::pin(rig.reloader.trigger(Trigger::Request));
        match futures::poll!(&mut request) {
            Poll::Pending => asked.push(request),
            Poll::Ready(answer) => {
                assert_eq!(answer.unwrap_err(), TriggerError::Busy);
                tokio::task::yield_now().await;
            }
        }
    }
    rig.sections[0].gate.notify_one();
    assert_eq!(under_way.await.unwrap().outcome, Outcome::Applied);
    for answer in futures::future::join_all(asked).await {
        let answer = answer.unwrap();
        assert_eq!((answer.n, answer.outcome), (3, Outcome::Unchanged));
    }
    assert_eq!(rig.reloader.status().borrow().attempts.len(), 3);
}

#[tokio::test]
async fn newer_input_supersedes_what_still_prepares_and_its_outcome_answers_both() {
    let rig = Rig::start("patient a", &["one", "two"]).await;
    rig.sections[1].set(Does::Hang);
    rig.write("patient b");
    let mut first = Box::pin(rig.reloader.trigger(Trigger::Request));
    assert!(futures::poll!(&mut first).is_pending());
    rig.diary.wait_for("prepare two").await;
    rig.sections[1].set(Does::Prepare);
    rig.write("patient c");
    let (first, second) = tokio::join!(first, rig.reload());
    assert_eq!((first.unwrap().n, second.n, second.outcome), (3, 3, Outcome::Applied));
    assert_eq!(rig.reloader.status().borrow().attempts[1].outcome, Outcome::Superseded);
    assert_eq!(rig.group(), "patient c");
    let steps = ["read", "prepare one", "prepare two", "read", "drop one"];
    assert_eq!(rig.diary.take()[..5], steps);
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_by_itself_while_the_input_stays() {
    let rig = Rig::start("a", &["one"]).await;
    rig.sections[0].set(Does::FailForNow);
    rig.write("b");
    let outcome = rig.reload().await;
    assert_eq!(outcome.outcome, Outcome::Rejected);
    rig.sections[0].set(Does::Prepare);
    let mut live = rig.reloader.live();
    seen(&mut live, |live| (live.generation.get() == 2).then_some(())).await;
    let mut status = rig.reloader.status();
    let last = seen(&mut status, |status| status.attempts.back().filter(|last| last.n == 3).map(Arc::clone)).await;
    assert_eq!((last.trigger, last.outcome), (Trigger::Retry, Outcome::Applied));
    assert_eq!(rig.group(), "b");
}

#[tokio::test]
async fn a_file_that_did_not_settle_is_read_again_without_a_hint() {
    let rig = Rig::start("a", &["one"]).await;
    rig.write("unsettled");
    let outcome = rig.reload().await;
    assert_eq!(outcome.rejection.as_ref().map(|rejection| rejection.reason), Some(Reason::Unsettled));
    rig.write("b");
    let mut live = rig.reloader.live();
    seen(&mut live, |live| (live.generation.get() == 2).then_some(())).await;
    assert_eq!(rig.group(), "b");
}

#[tokio::test]
async fn old_parts_retire_behind_and_what_overruns_is_counted() {
    let rig = Rig::start("a", &["slow", "one"]).await;
    let mut status = rig.reloader.status();
    // What the start replaced is nothing, but the fake does not know that.
    seen(&mut status, |status| (status.retiring == 0 && status.forced["slow"] == 2).then_some(())).await;
    rig.write("b");
    assert_eq!(rig.reload().await.outcome, Outcome::Applied);
    assert_eq!(status.borrow_and_update().retiring, 1, "the attempt ended before the old part did");
    seen(&mut status, |status| (status.retiring == 0 && status.forced["slow"] == 4).then_some(())).await;
}

#[tokio::test]
async fn a_generation_is_counted_until_its_last_part_has_ended() {
    let rig = Rig::start("a", &["slow", "one"]).await;
    let mut status = rig.reloader.status();
    seen(&mut status, |status| (status.retiring == 0).then_some(())).await;
    rig.write("b");
    let outcome = rig.reload().await;
    assert_eq!((outcome.retirement.state(), status.borrow().generations.alive()), ("draining", 2));
    seen(&mut status, |status| (status.generations.alive() == 1).then_some(())).await;
    seen(&mut status, |status| (status.retiring == 0).then_some(())).await;
    assert_eq!((outcome.retirement.state(), outcome.retirement.forced()), ("done", 2));
    rig.sections[0].set(Does::Nothing);
    for n in 0..100 {
        rig.write(&format!("group {n}"));
        assert_eq!(rig.reload().await.outcome, Outcome::Applied);
    }
    seen(&mut status, |status| (status.generations.alive() == 1).then_some(())).await;
}

#[tokio::test]
async fn each_step_is_timed_and_each_silent_look_counted_by_what_made_it() {
    let rig = Rig::start("a", &["one"]).await;
    rig.write("b");
    let outcome = rig.reload().await;
    let steps: Vec<&str> = outcome.phases.iter().map(|(phase, _took)| *phase).collect();
    assert_eq!(steps, ["read", "load", "plan", "prepare", "commit"]);
    let mut status = rig.reloader.status();
    assert_eq!(
        status.borrow().phases.keys().copied().collect::<Vec<_>>(),
        ["commit", "load", "plan", "prepare", "read"]
    );
    let hint = inbox::ReloadRequest { trigger: Trigger::Poll, answer_tx: None };
    rig.reloader.requests_tx.send(hint).await.unwrap();
    let checks = seen(&mut status, |status| (!status.checks.is_empty()).then(|| status.checks.clone())).await;
    assert_eq!(checks.into_iter().collect::<Vec<_>>(), [(Trigger::Poll, 1)]);
}

#[tokio::test]
async fn whoever_sent_sighup_is_told_of_its_attempt_even_if_nothing_is_new() {
    let rig = Rig::start("a", &["one"]).await;
    let mut status = rig.reloader.status();
    assert_eq!(status.borrow().begun, 1);
    for trigger in [Trigger::Poll, Trigger::Sighup] {
        let hint = inbox::ReloadRequest { trigger, answer_tx: None };
        rig.reloader.requests_tx.send(hint).await.unwrap();
    }
    seen(&mut status, |status| (status.begun == 2 && !status.is_under_way).then_some(())).await;
    assert_eq!(status.borrow().checks.keys().copied().collect::<Vec<_>>(), [Trigger::Sighup]);
    let hint = inbox::ReloadRequest { trigger: Trigger::Watch, answer_tx: None };
    rig.reloader.requests_tx.send(hint).await.unwrap();
    seen(&mut status, |status| status.checks.get(&Trigger::Watch).copied()).await;
    assert_eq!(status.borrow().begun, 2, "a look that finds nothing is not told");
}

#[tokio::test]
async fn shutdown_ends_an_attempt_that_hangs_and_undoes_it() {
    let rig = Rig::start("patient a", &["one", "two"]).await;
    rig.sections[1].set(Does::Hang);
    rig.write("patient b");
    let reloader = rig.reloader.clone();
    let asked = crate::task::spawn("asked", async move { reloader.trigger(Trigger::Request).await });
    rig.diary.wait_for("prepare two").await;
    rig.shutdown.trigger();
    let outcome = tokio::time::timeout(Duration::from_secs(1), asked).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(outcome.outcome, Outcome::Superseded);
    assert_eq!(rig.diary.take().last().map(String::as_str), Some("drop one"));
    assert_eq!(rig.group(), "patient a");
}

#[tokio::test]
async fn the_last_twenty_attempts_are_remembered() {
    let rig = Rig::start("a", &[]).await;
    for n in 0..25 {
        rig.write(&format!("group {n}"));
        assert_eq!(rig.reload().await.outcome, Outcome::Applied);
    }
    let status = rig.reloader.status().borrow().clone();
    assert_eq!(status.attempts.iter().map(|attempt| attempt.n).collect::<Vec<_>>(), (7..=26).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_reload_task_that_dies_is_started_again_and_answers_whoever_waited() {
    let (log, _guard) = Captured::begin();
    let rig = Rig::start("a", &["one"]).await;
    // Logging is the one thing that the task does outside of an attempt.
    log.kill_at("configuration applied");
    rig.write("b");
    let outcome = rig.reload().await;
    assert_eq!((outcome.n, outcome.trigger, outcome.outcome), (3, Trigger::Retry, Outcome::Unchanged));
    assert_eq!((rig.group().as_str(), rig.reloader.status().borrow().restarts), ("b", 1));
    let lines = log.take();
    let died = lines.iter().find(|line| line.message().starts_with("the reload task panicked")).unwrap();
    assert_eq!((died.level, died.field("panic")), (tracing::Level::ERROR, "killed on purpose"));
    rig.write("c");
    assert_eq!(rig.reload().await.outcome, Outcome::Applied);
}

#[tokio::test(start_paused = true)]
async fn a_check_during_an_attempt_that_it_makes_obsolete_loses_nobodys_request() {
    let rig = Rig::start("patient a", &["one"]).await;
    rig.sections[0].set(Does::Hang);
    rig.write("patient b");
    let mut first = Box::pin(rig.reloader.trigger(Trigger::Request));
    assert!(futures::poll!(&mut first).is_pending());
    rig.diary.wait_for("prepare one").await;
    rig.sections[0].set(Does::Prepare);
    rig.write("patient c");
    // It is what makes the attempt look; nobody else says that the file has changed.
    let checked = rig.reloader.trigger(Trigger::Check).await.unwrap();
    assert_eq!(first.await.unwrap().outcome, Outcome::Applied);
    assert_eq!((checked.outcome, rig.group().as_str()), (Outcome::Unchanged, "patient c"));
}

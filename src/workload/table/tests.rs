//! What each event does to each state.

use super::*;
use crate::types::{ArtifactSource, LocalResources, PullPolicy, PullSecret, WorkloadOrigin};

type TestTable = Table<u8, u8>;

fn spec(name: &str, secret: Option<&str>) -> Arc<WorkloadSpec> {
    Arc::new(WorkloadSpec {
        origin: WorkloadOrigin::Placed,
        namespace: "default".to_owned(),
        name: name.to_owned(),
        annotations: Default::default(),
        components: vec![ComponentSpec {
            name: "api".into(),
            image: ArtifactSource::Oci("example.com/api:1".to_owned()),
            pull_policy: PullPolicy::Unspecified,
            pull_secret: secret
                .map(|password| PullSecret { username: "robot".to_owned(), password: password.to_owned() }),
            pool_size: None,
            max_invocations: None,
            max_concurrency: None,
            local_resources: LocalResources::default(),
        }],
        service: None,
        host_interfaces: Vec::new(),
        volumes: Vec::new(),
    })
}

fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), at: Instant::now() }
}

fn reserved(begin: Begin<u8>) -> StartNumber {
    match begin {
        Begin::Reserved(number) => number,
        other => panic!("not reserved: {other:?}"),
    }
}

#[test]
fn the_same_start_again_joins_and_another_one_is_refused() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let number = reserved(table.begin(&id, &spec("a", None), || 1));
    assert_eq!(table.begin(&id, &spec("a", None), || 2), Begin::Joins(1));
    assert_eq!(table.begin(&id, &spec("a", Some("rotated")), || 2), Begin::Joins(1));
    assert_eq!(table.begin(&id, &spec("b", None), || 2), Begin::Taken);
    assert!(table.finish(&id, number, Ok(9)));
    assert_eq!(table.begin(&id, &spec("a", None), || 2), Begin::Runs(WorkloadState::Running));
    assert_eq!(table.begin(&id, &spec("b", None), || 2), Begin::Taken);
}

#[test]
fn a_failed_start_keeps_its_reason_and_may_be_tried_again() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let number = reserved(table.begin(&id, &spec("a", None), || 1));
    assert!(table.finish(&id, number, Err(failure("no such image"))));
    assert!(matches!(&table.get(&id).unwrap().phase, Phase::Failed(why) if &*why.reason == "no such image"));
    reserved(table.begin(&id, &spec("b", None), || 1));
    assert_eq!(table.get(&id).unwrap().state(), WorkloadState::Starting);
}

#[test]
fn a_start_that_was_stopped_cannot_finish() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let first = reserved(table.begin(&id, &spec("a", None), || 1));
    assert!(matches!(table.begin_stop(&id), Stopped::Starting(number, 1) if number == first));
    assert!(!table.finish(&id, first, Ok(9)));
    assert_eq!(table.begin(&id, &spec("a", None), || 2), Begin::Taken);
    table.forget(&id, first);
    let second = reserved(table.begin(&id, &spec("a", None), || 2));
    assert!(!table.finish(&id, first, Ok(9)), "the end of the old start is not that of the new one");
    table.forget(&id, first);
    assert!(table.finish(&id, second, Ok(9)));
}

#[test]
fn stopping_what_failed_forgets_it_and_stopping_twice_is_harmless() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    assert!(matches!(table.begin_stop(&id), Stopped::NotFound));
    table.record_failed(&id, spec("a", None), failure("why"));
    assert!(matches!(table.begin_stop(&id), Stopped::Already));
    assert!(table.get(&id).is_none());
    let number = reserved(table.begin(&id, &spec("a", None), || 1));
    assert!(table.finish(&id, number, Ok(9)));
    assert!(matches!(table.begin_stop(&id), Stopped::Running(_, 9)));
    assert!(matches!(table.begin_stop(&id), Stopped::Already));
}

#[test]
fn only_so_many_failures_are_remembered() {
    let mut table = TestTable::default();
    for n in 0..2000 {
        let id = WorkloadId::from(format!("w{n}"));
        let number = reserved(table.begin(&id, &spec("a", None), || 1));
        assert!(table.finish(&id, number, Err(failure("no"))));
    }
    assert_eq!(table.iter().count(), FAILED_MAX);
    assert!(table.get(&WorkloadId::from("w1999")).is_some());
    assert!(table.get(&WorkloadId::from("w0")).is_none());
}

#[test]
fn failures_are_forgotten_after_a_while_but_not_those_that_are_tried_again() {
    let mut table = TestTable::default();
    let (placed, of_file) = (WorkloadId::from("placed"), WorkloadId::of_static("default", "file"));
    let number = reserved(table.begin(&placed, &spec("a", None), || 1));
    assert!(table.finish(&placed, number, Err(failure("no"))));
    let spec = WorkloadSpec { origin: WorkloadOrigin::Static, ..(*spec("b", None)).clone() };
    table.record_failed(&of_file, Arc::new(spec), failure("no"));
    table.expire(Instant::now());
    assert_eq!(table.iter().count(), 2);
    table.expire(Instant::now() + FAILED_TIME_MAX + Duration::from_secs(1));
    assert!(table.get(&placed).is_none() && table.get(&of_file).is_some());
}

#[test]
fn another_try_begins_only_while_nothing_else_happened() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let failed = table.record_failed(&id, spec("a", None), failure("first"));
    assert!(table.fail_again(&id, failed, failure("second")));
    assert!(matches!(&table.get(&id).unwrap().phase, Phase::Failed(why) if &*why.reason == "second"));
    let again = table.begin_again(&id, failed, || 1).unwrap();
    assert!(table.begin_again(&id, failed, || 2).is_none() && !table.fail_again(&id, failed, failure("late")));
    assert!(table.finish(&id, again, Err(failure("third"))));
    assert!(matches!(table.begin_stop(&id), Stopped::Already));
    assert!(table.begin_again(&id, again, || 3).is_none(), "it was taken out of the file meanwhile");
    assert!(table.get(&id).is_none());
}

#[test]
fn a_service_that_ends_well_completes_its_workload_and_one_that_fails_makes_it_start_again() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let number = reserved(table.begin(&id, &spec("a", None), || 1));
    assert!(!table.set_service(&id, number, ServiceState::Completed), "it does not run yet");
    assert!(table.finish(&id, number, Ok(9)));
    for (service, state) in [
        (ServiceState::Restarting, WorkloadState::Starting),
        (ServiceState::Running, WorkloadState::Running),
        (ServiceState::Completed, WorkloadState::Completed),
    ] {
        assert!(table.set_service(&id, number, service));
        assert_eq!(table.get(&id).unwrap().state(), state);
        assert_eq!(table.begin(&id, &spec("a", None), || 2), Begin::Runs(state));
        assert_eq!(table.begin(&id, &spec("b", None), || 2), Begin::Taken);
        assert_eq!(table.swap_running(&id, number, 9), Some(9));
        assert_eq!(table.get(&id).unwrap().state(), state, "other parts are not another state");
    }
    assert!(matches!(table.begin_stop(&id), Stopped::Running(_, 9)), "a completed workload is stopped as any other");
    assert!(!table.set_service(&id, number, ServiceState::Running), "it is being stopped");
    assert_eq!(table.get(&id).unwrap().state(), WorkloadState::Stopping);
}

#[test]
fn a_service_that_is_given_up_fails_its_workload_and_only_its_own() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let first = reserved(table.begin(&id, &spec("a", None), || 1));
    assert!(table.finish(&id, first, Ok(9)));
    assert!(table.set_service(&id, first, ServiceState::Restarting));
    assert_eq!(table.fail_running(&id, first, failure("exhausted")), Some(9));
    assert_eq!(table.get(&id).unwrap().state(), WorkloadState::Error);
    let second = reserved(table.begin(&id, &spec("a", None), || 1));
    assert!(table.finish(&id, second, Ok(10)));
    assert_eq!(table.get(&id).unwrap().state(), WorkloadState::Running, "nothing is left of the first one's state");
    assert!(!table.set_service(&id, first, ServiceState::Completed));
    assert_eq!(table.fail_running(&id, first, failure("late")), None);
    let (third, old) = table.replace(&id, spec("b", None), 11);
    assert!(matches!(old, Some(Phase::Running(10))) && third != second);
    assert!(!table.set_service(&id, second, ServiceState::Completed), "another one runs in its place");
}

#[test]
fn what_is_begun_again_and_again_is_known_to_be_until_it_was_well() {
    let mut table = TestTable::default();
    let id = WorkloadId::from("w");
    let mut number = table.record_failed(&id, spec("a", None), failure("no"));
    for retries in 1..=3 {
        number = table.begin_again(&id, number, || 1).unwrap();
        assert!(table.finish(&id, number, Ok(9)));
        assert_eq!(table.fail_running(&id, number, failure("again")), Some(9));
        assert_eq!(table.get(&id).unwrap().retries, retries);
    }
    table.renew(&id, number);
    assert_eq!(table.get(&id).unwrap().retries, 0);
    reserved(table.begin(&id, &spec("a", None), || 1));
    table.renew(&id, number);
    assert_eq!(table.get(&id).unwrap().retries, 0, "a start from outside counts from the beginning");
}

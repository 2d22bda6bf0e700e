//! A random walk over edits, requests, faults and time, compared with a model after every step.
//!
//! Time is paused: a step that waits for nothing takes none, and what hangs is over at once.

mod compare;
mod dice;
pub(super) mod log;
mod model;
mod parts;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::dice::Dice;
use self::log::Captured;
use self::model::{Expected, Model};
use self::parts::{Does, NAMES, Retires, Stage, Text, WalkSection, WalkSource};
use crate::reload::inbox::ReloadRequest;
use crate::reload::*;
use crate::task::{Shutdown, spawn};

/// Steps of the walk; `WASHLET_TEST_STEPS` makes it longer, `WASHLET_TEST_SEED` another one.
const STEPS: u64 = 10_000;

/// Long enough for everything that waits for nothing.
const MOMENT: Duration = Duration::from_millis(2);

/// Before and after the time in which a retry may begin.
const ABOUT: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn after_any_step_of_a_random_walk_status_log_answers_and_what_is_live_agree() {
    let variables = crate::config::env::capture();
    let number = |name: &str, default| {
        variables.iter().find(|(key, _)| key == name).map_or(default, |(_, value)| value.parse().unwrap())
    };
    let seed = number("WASHLET_TEST_SEED", 20_261_123);
    let mut walk = Walk::start(seed).await;
    for step in 0..number("WASHLET_TEST_STEPS", STEPS) {
        walk.did = format!("seed {seed}, step {step}");
        walk.step().await;
        walk.settle().await;
        walk.agree();
    }
    walk.end().await;
}

struct Walk {
    dice: Dice,
    model: Model,
    reloader: Reloader,
    stages: Vec<Arc<Stage>>,
    text_tx: watch::Sender<Option<Text>>,
    reads: Arc<Mutex<VecDeque<Instant>>>,
    shutdown: Shutdown,
    log: Captured,
    _log_guard: tracing::subscriber::DefaultGuard,
    /// How many attempts of the history were compared with the log.
    logged: usize,
    /// What was done last, for whoever reads a failure.
    did: String,
}

impl Walk {
    async fn start(seed: u64) -> Self {
        let (log, log_guard) = Captured::begin();
        let first = Text::Good { group: 0, environment: 0, listens: false, comment: 0 };
        let (text_tx, text) = watch::channel(Some(first.clone()));
        let reads = Arc::<Mutex<VecDeque<Instant>>>::default();
        let stages: Vec<Arc<Stage>> = NAMES.iter().map(|_| Arc::default()).collect();
        let section = |(name, stage): (&&'static str, &Arc<Stage>)| {
            Box::new(WalkSection { name, stage: Arc::clone(stage) }) as Box<dyn Section<parts::Draft>>
        };
        let shutdown = Shutdown::default();
        let (reloader, task) = Reloader::new(ReloaderParts {
            source: Box::new(WalkSource { text, reads: Arc::clone(&reads) }),
            sections: NAMES.iter().zip(&stages).map(section).collect(),
            poll_seed: "host".to_owned(),
            shutdown: shutdown.clone(),
        });
        drop(spawn("reload", task.run()));
        assert_eq!(reloader.first().await.unwrap().outcome, Outcome::Applied);
        sleep(MOMENT).await;
        reads.lock().unwrap().clear();
        let model = Model::started(first);
        let dice = Dice(seed);
        let (did, logged) = (String::new(), 0);
        Self { dice, model, reloader, stages, text_tx, reads, shutdown, log, _log_guard: log_guard, logged, did }
    }

    async fn step(&mut self) {
        match self.dice.below(16) {
            0..=3 => {
                let text = self.any_text();
                self.write(text);
            }
            4 => {
                let again = self.model.file.clone().map(|text| self.touched(text));
                self.write(again);
            }
            5..=6 => self.toggle(),
            7..=8 => self.ask(1, 0, 0).await,
            9 => self.ask(0, 1, 0).await,
            10..=11 => self.ask(0, 0, 1).await,
            12 => {
                let (requests, checks, hints) = (self.dice.below(6), self.dice.below(4), self.dice.below(6));
                self.ask(requests, checks, hints).await;
            }
            13 => self.overtake().await,
            _ => {
                let millis = self.dice.one_of(&[1, 400, 1_500, 3_000, 70_000]);
                self.say(&format!("{millis} ms pass"));
                self.pass(Duration::from_millis(millis)).await;
            }
        }
    }

    fn say(&mut self, did: &str) {
        self.did = format!("{}, {did}", self.did);
    }

    fn any_good(&mut self) -> Text {
        // What listens goes on listening, most of the time: losing that is refused.
        let listens = if self.model.listens { !self.dice.one_in(10) } else { self.dice.one_in(20) };
        let (group, environment) = (self.dice.digit(3), u8::from(self.dice.one_in(4)));
        Text::Good { group, environment, listens, comment: self.dice.digit(2) }
    }

    fn any_text(&mut self) -> Option<Text> {
        match self.dice.below(20) {
            0 => None,
            1..=2 => Some(Text::Wrong(self.dice.digit(2))),
            3 => Some(Text::LoaderPanics),
            4 => Some(Text::LoaderHangs),
            5 => Some(Text::PlanPanics),
            _ => Some(self.any_good()),
        }
    }

    /// The same values in another text.
    fn touched(&mut self, text: Text) -> Text {
        match text {
            Text::Good { group, environment, listens, comment } => {
                Text::Good { group, environment, listens, comment: comment.wrapping_add(1) }
            }
            Text::Wrong(_) | Text::LoaderPanics | Text::LoaderHangs | Text::PlanPanics => text,
        }
    }

    fn write(&mut self, text: Option<Text>) {
        self.say(&format!("write {text:?}"));
        self.model.file.clone_from(&text);
        self.text_tx.send_replace(text);
    }

    fn toggle(&mut self) {
        let index = self.dice.below(NAMES.len());
        // Most sections work, or nothing would ever be applied.
        let does = if self.dice.one_in(3) { self.dice.one_of(&Does::ALL) } else { Does::Prepare };
        let retires = self.dice.one_of(&Retires::ALL);
        self.set(index, does);
        self.model.retires[index] = retires;
        *self.stages[index].retires.lock().unwrap() = retires;
    }

    fn set(&mut self, index: usize, does: Does) {
        self.say(&format!("section {} does {does:?}", NAMES[index]));
        self.model.does[index] = does;
        *self.stages[index].does.lock().unwrap() = does;
    }

    fn hint(&self, trigger: Trigger) {
        self.reloader.requests_tx.try_send(ReloadRequest { trigger, answer_tx: None }).unwrap();
    }

    fn began(&self) -> Instant {
        self.reads.lock().unwrap().pop_front().expect("the attempt has read")
    }

    /// Time passes, and retries are made when they are due.
    async fn pass(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while let Some((earliest, _)) = self.model.retry.filter(|(earliest, _)| *earliest < end) {
            sleep_until(earliest).await;
            self.settle().await;
        }
        sleep_until(end).await;
    }

    /// Lets a retry that is due now be made, and every part whose time is about now be gone.
    async fn settle(&mut self) {
        while let Some((_, latest)) = self.model.retry.filter(|(earliest, _)| *earliest < Instant::now() + ABOUT) {
            sleep_until(latest + MOMENT).await;
            let (began, takes) = (self.began(), self.model.takes(Trigger::Retry));
            sleep_until(began + takes + MOMENT).await;
            self.model.attempt(Trigger::Retry, began + takes);
        }
        while self.model.retires_about(Instant::now()) {
            sleep(ABOUT).await;
        }
    }

    /// One read for each attempt; what took its time may have been followed by a retry.
    fn has_read_no_more(&self) {
        let may_be_due = self.model.retry.is_some_and(|(earliest, _)| earliest < Instant::now());
        assert!(self.reads.lock().unwrap().len() <= usize::from(may_be_due), "reads more than once: {}", self.did);
    }

    /// All at once; they share attempts.
    async fn ask(&mut self, requests: usize, checks: usize, hints: usize) {
        self.say(&format!("{requests} requests, {checks} checks, {hints} hints"));
        let hint = self.dice.one_of(&[Trigger::Watch, Trigger::Poll, Trigger::Sighup]);
        for _ in 0..hints {
            self.hint(hint);
        }
        let asked = join_all((0..requests).map(|_| self.reloader.trigger(Trigger::Request)));
        let checked = join_all((0..checks).map(|_| self.reloader.trigger(Trigger::Check)));
        let (asked, checked) = tokio::join!(asked, checked);
        if requests == 0 && checks == 0 && hints > 0 {
            sleep(MOMENT + self.model.takes(hint)).await;
        }
        sleep(MOMENT).await;
        if requests > 0 || hints > 0 {
            let trigger = if requests > 0 { Trigger::Request } else { hint };
            let expected = self.attempted(trigger);
            self.answered(&asked, expected.as_ref());
        }
        if checks > 0 {
            let expected = self.attempted(Trigger::Check);
            self.answered(&checked, expected.as_ref());
        }
        self.has_read_no_more();
    }

    fn attempted(&mut self, trigger: Trigger) -> Option<Expected> {
        let ended = self.began() + self.model.takes(trigger);
        self.model.attempt(trigger, ended)
    }

    fn answered(&self, answers: &[Result<Arc<ReloadOutcome>, TriggerError>], expected: Option<&Expected>) {
        for answer in answers {
            let outcome = answer.as_ref().unwrap_or_else(|error| panic!("{error}: {}", self.did));
            self.is_as(outcome, expected.expect("whoever asks is answered"));
        }
    }

    /// Something arrives while an attempt prepares, and perhaps a newer text with it.
    async fn overtake(&mut self) {
        let hanging = self.hang_somewhere();
        self.say("a request");
        let reloader = self.reloader.clone();
        let mut first = Box::pin(reloader.trigger(Trigger::Request));
        assert!(futures::poll!(&mut first).is_pending());
        sleep(MOMENT).await;
        let began = self.began();

        let newer = if self.dice.one_in(4) { self.model.file.clone() } else { self.any_text() };
        let is_newer = newer.is_some() && newer != self.model.file;
        let is_overtaken = is_newer && self.model.may_supersede();
        if is_overtaken {
            self.model.superseded(Trigger::Request);
        } else {
            self.model.attempt(Trigger::Request, began + parts::PREPARE);
        }
        let rejected = self.model.history.last().cloned();
        let looks = self.model.may_supersede() || is_overtaken;
        let works = self.dice.one_of(&[Does::Prepare, Does::Hang, Does::Fail]);
        self.set(hanging, works);
        self.write(newer);
        let trigger = self.dice.one_of(&[Trigger::Watch, Trigger::Request, Trigger::Check]);
        self.say(&format!("then {trigger:?}, which overtakes: {is_overtaken}"));
        let mut second = None;
        if trigger == Trigger::Watch {
            self.hint(trigger);
        } else {
            let mut asked = Box::pin(reloader.trigger(trigger));
            assert!(matches!(futures::poll!(&mut asked), Poll::Pending));
            second = Some(asked);
        }
        sleep(MOMENT).await;
        if looks {
            // Whether there is newer input.
            self.began();
        }
        let first = [first.await];
        if !is_overtaken {
            self.answered(&first, rejected.as_ref());
        }
        let next = if is_overtaken { Trigger::Request } else { trigger };
        let second = match second {
            Some(second) => vec![second.await],
            None => Vec::new(),
        };
        let is_awaited = is_overtaken || !second.is_empty();
        let takes = if is_awaited { Duration::ZERO } else { self.model.takes(next) };
        sleep(MOMENT + takes).await;
        let expected = self.attempted(next);
        if is_overtaken {
            self.answered(&first, expected.as_ref());
        }
        let expected = if is_overtaken && trigger == Trigger::Check { self.attempted(trigger) } else { expected };
        self.answered(&second, expected.as_ref());
        self.has_read_no_more();
    }
    /// A section that hangs, and a text with which an attempt gets to it.
    fn hang_somewhere(&mut self) -> usize {
        let hanging = self.dice.below(NAMES.len());
        for index in 0..hanging {
            self.set(index, Does::Prepare);
        }
        self.set(hanging, Does::Hang);
        let group = self.model.group.map_or(0, |group| (group + 1) % 3);
        let comment = self.dice.digit(2);
        self.write(Some(Text::Good { group, environment: 0, listens: true, comment }));
        hanging
    }
}

//! A model's profile follows what the network serves, without a word from the owner.

use std::time::Duration;

use infera_node::state::EngineStatus;
use infera_protocol::node_api::NodeEvent;
use infera_protocol::{JobId, ModelId, Profile};

use crate::fakes::{FakeBalancer, FakeEngine, MODEL, MODEL_P16, Rig};

async fn serving(models: &[ModelId]) -> Rig {
    let balancer = FakeBalancer::default();
    balancer.books().served = Some(models.to_vec());
    Rig::start(balancer, FakeEngine::default()).await
}

impl Rig {
    fn profiles(&self) -> Vec<Profile> {
        self.engine.script().profiles.clone()
    }

    /// The network serves these from now on, and the node hears of it.
    fn serve(&self, models: &[ModelId]) {
        self.balancer.books().served = Some(models.to_vec());
        self.balancer.send(NodeEvent::Reset);
    }

    fn offer_in_p16(&self, max_tokens: u32) -> JobId {
        let job = self.balancer.book(1, max_tokens);
        let mut books = self.balancer.books();
        books.jobs.get_mut(&job).unwrap().spec.task.model = MODEL_P16;
        drop(books);
        self.balancer.offer(job);
        job
    }

    async fn until_loaded(&self, model: ModelId) {
        self.until("the balancer knows what is loaded", || {
            let books = self.balancer.books();
            let told = books.states.last();
            told.is_some_and(|state| state.models == [model] && state.free_slots > 0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_model_served_in_p16_only_is_loaded_again_once_and_takes_jobs() {
    let rig = serving(&[MODEL_P16]).await;
    rig.until_loaded(MODEL_P16).await;
    assert_eq!(rig.profiles(), [Profile::P32, Profile::P16]);
    assert_eq!(rig.engine.script().running, 1, "the first engine has ended");
    rig.until_sentence("Waiting for jobs").await;
    let job = rig.offer_in_p16(20);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 20);
    let snapshot = rig.until_sentence("Waiting for jobs").await;
    let model = &snapshot.models[0];
    assert_eq!((model.id, model.served), (Some(MODEL_P16), Some(true)));
    assert_eq!(model.name, "tiny-chat");
    rig.after(Duration::from_hours(1)).await;
    assert_eq!(rig.engine.script().started, 2);
}

/// While the engine is exchanged nobody is told that the network lacks the model.
#[tokio::test]
async fn the_owner_sees_nothing_but_a_model_that_loads() {
    let rig = serving(&[MODEL_P16]).await;
    let mut snapshots = rig.node.snapshots();
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while snapshots.changed().await.is_ok() {
            let snapshot = snapshots.borrow_and_update().clone();
            let model = &snapshot.models[0];
            let done = (model.id, &model.engine) == (Some(MODEL_P16), &EngineStatus::Ready);
            seen.push(snapshot.state.sentence);
            if done {
                break;
            }
        }
        seen
    });
    let seen = watching.await.unwrap();
    let complains = |sentence: &String| sentence.contains("does not serve");
    assert!(!seen.iter().any(complains), "{seen:?}");
}

#[tokio::test]
async fn what_is_served_as_it_is_stays() {
    let rig = serving(&[MODEL, MODEL_P16]).await;
    rig.until_loaded(MODEL).await;
    rig.serve(&[MODEL_P16]);
    rig.until_loaded(MODEL_P16).await;
    rig.serve(&[MODEL, MODEL_P16]);
    rig.after(Duration::from_mins(30)).await;
    assert_eq!(rig.profiles(), [Profile::P32, Profile::P16]);
    rig.serve(&[]);
    rig.after(Duration::from_mins(30)).await;
    assert_eq!(rig.profiles(), [Profile::P32, Profile::P16]);
    rig.serve(&[MODEL]);
    rig.until_loaded(MODEL).await;
    assert_eq!(rig.profiles(), [Profile::P32, Profile::P16, Profile::P32]);
}

#[tokio::test]
async fn a_change_that_no_event_tells_is_noticed_in_time() {
    let rig = Rig::ready().await;
    rig.balancer.books().served = Some(vec![MODEL_P16]);
    rig.after(Duration::from_mins(11)).await;
    assert_eq!(rig.profiles(), [Profile::P32, Profile::P16]);
}

#[tokio::test]
async fn a_job_is_finished_before_its_model_is_loaded_again() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 500);
    rig.balancer.offer(job);
    rig.until_tokens(job, 10).await;
    rig.serve(&[MODEL_P16]);
    rig.until("the node knows", || {
        rig.node.snapshots().borrow().models[0].served == Some(false)
    })
    .await;
    rig.until_tokens(job, 400).await;
    assert_eq!(rig.profiles(), [Profile::P32]);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 500);
    rig.until_loaded(MODEL_P16).await;
    assert_eq!(rig.profiles(), [Profile::P32, Profile::P16]);
}

#[tokio::test]
async fn an_engine_that_is_started_again_keeps_its_profile() {
    let rig = serving(&[MODEL_P16]).await;
    rig.until_loaded(MODEL_P16).await;
    rig.engine.script().die_at.push_back(5);
    let job = rig.offer_in_p16(20);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 20);
    rig.node.pause(None, false).await.unwrap();
    rig.after(Duration::from_mins(1)).await;
    rig.node.resume().await.unwrap();
    rig.until_loaded(MODEL_P16).await;
    let p16 = Profile::P16;
    assert_eq!(rig.profiles(), [Profile::P32, p16, p16, p16]);
}

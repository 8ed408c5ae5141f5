//! The database: versions, rights, faults, and what is in it.

use infera_node::store::{Store, StoreError};

use infera_protocol::CHUNK_TOKENS;

use crate::fakes::{Rig, while_time_stands};

async fn raw(path: &std::path::Path) -> sqlx::SqlitePool {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    sqlx::SqlitePool::connect_with(options).await.unwrap()
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    Store::open(&path).await.unwrap().close().await;
    let pool = raw(&path).await;
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 1)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer(_)), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    std::fs::write(&path, "this is a letter, not a database. ".repeat(100)).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&folder.path().join("none").join("node.sqlite"))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
}

#[tokio::test]
async fn a_disk_that_takes_no_more_hands_jobs_back_and_the_node_recovers_by_itself() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 20).await;
    let path = rig.folder.path().join("node.sqlite");
    // Chunks that were saved before are acknowledged or still in the outbox.
    let in_outbox: i64 = while_time_stands({
        let path = path.clone();
        async move {
            let pool = raw(&path).await;
            sqlx::raw_sql(
                "BEGIN IMMEDIATE;
                 CREATE TRIGGER no_chunk BEFORE INSERT ON chunk BEGIN SELECT RAISE(ABORT, 'no space'); END;
                 CREATE TRIGGER no_setting BEFORE INSERT ON setting BEGIN SELECT RAISE(ABORT, 'no space'); END;
                 COMMIT",
            )
            .execute(&pool)
            .await
            .unwrap();
            let saved = sqlx::query_scalar("SELECT coalesce(max(number) + 1, 0) FROM chunk")
                .fetch_one(&pool)
                .await
                .unwrap();
            pool.close().await;
            saved
        }
    })
    .await;
    let acknowledged = rig.balancer.books().jobs[&job].tokens.len() / CHUNK_TOKENS;
    let saved = acknowledged.max(usize::try_from(in_outbox).unwrap()) * CHUNK_TOKENS;
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
    let snapshot = rig.until_sentence("no space").await;
    assert!(snapshot.state.remedy.is_some());
    assert!(
        rig.balancer.books().jobs[&job].tokens.len() <= saved + CHUNK_TOKENS,
        "nothing unsaved was sent"
    );
    while_time_stands(async move {
        let pool = raw(&path).await;
        sqlx::raw_sql("DROP TRIGGER no_chunk; DROP TRIGGER no_setting")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    })
    .await;
    rig.until_ready().await;
    let second = rig.balancer.book(2, 40);
    rig.balancer.offer(second);
    rig.until_finished(second).await;
    rig.balancer.books().most_concurrent_outputs = 0;
    rig.balancer.assert_unbroken(second, 40);
}

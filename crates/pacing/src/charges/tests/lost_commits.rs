//! A commit whose answer is lost: a proxy between charges and database cuts the connection before
//! or after the database has seen the COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use adspend_common::config::Database;
use adspend_common::db::Pool;
use adspend_common::identity::Caller;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::support::{BOOKED, Fixture, REPLAYED, charge, flags, replica};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The database never sees the COMMIT.
    Before,
    /// It has answered it; nobody hears the answer.
    After,
}

/// The simple query that commits.
const COMMIT: &[u8] = b"COMMIT\0";
/// The message that ends a session.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Passes bytes on, and cuts the next `left` connections at their COMMIT. Gives its port.
async fn proxy(server: String, cut: Cut, left: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(pass(client, server, cut, left.clone()));
        }
    });
    port
}

async fn pass(client: TcpStream, server: TcpStream, cut: Cut, left: Arc<AtomicUsize>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let deaf = Arc::new(AtomicBool::new(false));
    let back = tokio::spawn(answer(from_server, to_client, deaf.clone()));
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        let bytes = &buffer[..count];
        let commits = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
        let take = |left: usize| left.checked_sub(1);
        if commits && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            deaf.store(true, Ordering::SeqCst);
            if cut == Cut::After {
                to_server.write_all(bytes).await.unwrap();
                // It hangs up on the Terminate, after it has done what came before.
                to_server.write_all(TERMINATE).await.unwrap();
            }
            drop(to_server);
            back.await.unwrap();
            return;
        }
        if to_server.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// What the database says, until it hangs up. Nobody hears it when `deaf`.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !deaf.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn through_proxy(books: &Fixture, cut: Cut, times: usize) -> Pool {
    let mut url = books.database_url();
    let at = url.rfind('@').map_or_else(|| url.find("://").unwrap() + 3, |at| at + 1);
    let end = at + url[at..].find('/').unwrap();
    let port = proxy(url[at..end].to_owned(), cut, Arc::new(AtomicUsize::new(times))).await;
    url.replace_range(at..end, &format!("127.0.0.1:{port}"));
    Pool::new(&Database::new(url), "charges-behind-a-proxy").unwrap()
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_made_again() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let slice = books.slice(shop, books.campaign(shop, "spring").await, 1_000).await;
    let charges = replica(&through_proxy(&books, Cut::Before, 2).await, &books.clock);
    let batch = vec![charge("c-1", slice.token(0, 100), 30)];
    let answers = charges.settle(&Caller::operator(), batch).await.unwrap();
    assert_eq!(flags(&answers[0]), BOOKED);
    assert_eq!(books.number("SELECT charged_micros FROM slice").await, 30);
    books.assert_books().await;
}

/// The second try finds the charge and calls it a repeat: it cannot know whose it is.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_made_twice() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let slice = books.slice(shop, books.campaign(shop, "spring").await, 1_000).await;
    let charges = replica(&through_proxy(&books, Cut::After, 2).await, &books.clock);
    let batch = vec![charge("c-1", slice.token(0, 100), 30)];
    let answers = charges.settle(&Caller::operator(), batch).await.unwrap();
    assert_eq!(flags(&answers[0]), REPLAYED);
    assert_eq!(books.number("SELECT charged_micros FROM slice").await, 30);
    books.assert_books().await;
}

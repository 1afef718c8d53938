//! Messages of either side: never a panic, and what was understood says the same when it is written
//! down again.

use pi0rt::control::{Reply, Request};

pub fn run(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(reply) = Reply::decode(data) {
        if let Reply::Welcome(welcome) = &reply {
            let _ = welcome.layout.check();
        }
        // A rate may be any number, also one that is not equal to itself.
        let again = Reply::decode(&reply.encode());
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(reply)));
    }
}

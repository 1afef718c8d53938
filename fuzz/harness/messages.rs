//! Messages of either side: decoding never panics, and a decoded message encodes to the same meaning.

use pi0rt::control::{Reply, Request};

pub fn run(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(reply) = Reply::decode(data) {
        if let Reply::Welcome(welcome) = &reply {
            let _ = welcome.layout.check();
        }
        // A rate may be any number, even NaN, which is not equal to itself.
        let again = Reply::decode(&reply.encode());
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(reply)));
    }
}

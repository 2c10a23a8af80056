"""opend-sidecar: a reverse proxy in front of an unmodified OpenD that gives every client a key which can do only what it should.

The folders are the journey of a request:

    client ─▶ listeners ─▶ relay ─▶ gate ─┬─▶ keys      whose request it is, asked again for every one (grants)
                           or desk        ├─▶ intents   what it means: read once, from strictly parsed bytes (wire)
                             ▲            ├─▶ facts     what it does not say: accounts, instruments, quotes
                             │            ├─▶ policy    decide(key, intent, facts, usage, now), pure
                             │            ├─▶ ledger    reserve, settle: what is used, whose order is whose
                             │            └─▶ audit     written before it is forwarded (recorder: one thread for both)
                             │
                          returns ◀── upstream ◀──▶ OpenD

A `relay` is one client's connection with a session of its own (TCP, WebSocket); a `desk` is one key's session, shared by
clients that come and go by the request (REST, gRPC, MCP).
What OpenD says of orders, in replies, pushes and lists, is settled in `settling`; `reconciling` asks for what was lost.
The `switch` is the owner's: it halts and resumes trading, whoever asks and whatever the disk does; `breakers` halt by themselves.
`explaining` has an order decided that nobody sent, `replaying` an audit's under other keys.
`cancelling` gets everybody out: all orders or one key's, for the owner or because a client has gone.
`app` puts the parts together and says how they start, change (`rereading`) and end (`stopping`); `cli` is what people type,
`sandbox` a paper OpenD to try everything against.
What must always hold is marked INVARIANT where the code upholds it; what an attacker would try is marked SECURITY.
"""

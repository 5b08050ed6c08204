"""Two nodes in threads of this process, over links in memory in place of TLS: whom client_session.py talks to."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from small_model import SmallModel

from engine.link import MemoryConnection, pair
from engine.models.planning import plans
from engine.parties.evaluator import Evaluator
from engine.program.plan import made_bytes, round_bytes
from engine.rows.run import Rows
from engine.session import Block, Bye, Material, NodeSession, Terms
from engine.session.keys import fresh
from engine.step import Step


def terms(model: SmallModel, role: int) -> Terms:
    """What client and node must agree on. In earnest each makes its own, and HELLO and WELCOME compare them."""
    spec, program = model.spec, plans(model.spec)
    return Terms(
        program=spec.digest(),
        pack=model.packs[role - 1].digest,
        role=role,
        vocab=spec.vocab,
        d_model=spec.d_model,
        sections=spec.sections,
        prefix=len(spec.prefix),
        context=spec.context,
        queue_bytes=1 << 24,
        made_bytes=lambda count, position: made_bytes(program, Rows(0, position, count), role),
        round_bytes=lambda count, position: round_bytes(program, Rows(0, position, count)),
        start_id=fresh(16).hex(),
        peer_fingerprint="0" * 64,  # of the other node's certificate, if there were one
    )


def serve(model: SmallModel, role: int, client: MemoryConnection, other: MemoryConnection) -> None:
    """A node: prepare what is dealt and compute what is asked for, until the client says BYE."""
    with client, other:  # a node that fails ends who waits for it
        evaluator: Evaluator
        session = NodeSession(terms(model, role), lambda row, section: evaluator.section_bytes(row, section))
        session.receive(client.receive())  # HELLO
        client.send(session.send_welcome())
        pack, prefix, context = model.packs[role - 1], len(model.spec.prefix), model.spec.context
        evaluator = Evaluator(pack, session.key("streams"), prefix=prefix, context=context)
        client.send(session.send_ready())
        while not isinstance(event := session.receive(client.receive()), Bye):
            if isinstance(event, Block):
                evaluator.announce(event.first_row, event.count, event.first_position)
            elif isinstance(event, Material):
                evaluator.prepare(event.first_row, event.section, bytes(event.data))
            elif isinstance(event, Step):
                client.send(session.send_answer(evaluator.step(event, other.exchange, lambda rows_done, section: None)))


@contextmanager
def nodes(model: SmallModel) -> Iterator[tuple[MemoryConnection, MemoryConnection]]:
    """Start both nodes; yields the client's links to them."""
    (to_one, one), (to_two, two), (one_two, two_one) = pair(), pair(), pair("/peer")
    with ThreadPoolExecutor(2) as threads, to_one, to_two:
        served = [threads.submit(serve, model, 1, one, one_two), threads.submit(serve, model, 2, two, two_one)]
        yield to_one, to_two
        for node in served:
            node.result()

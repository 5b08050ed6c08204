"""One session of a client with both nodes, message by message.

python examples/client_session.py
"""

from memory_nodes import nodes, terms
from small_model import SmallModel, small_model

from engine.link import MemoryConnection
from engine.parties.dealer import Dealer
from engine.session import ClientSession, compare
from engine.session.keys import fresh
from engine.step import Answer

PROMPT = [3, 14, 15, 92, 65]


def chat(model: SmallModel, links: tuple[MemoryConnection, MemoryConnection]) -> int:
    """Greet both nodes, deal, ask for one step; return the most likely token behind the prompt."""
    name, prefix, context = fresh(16), len(model.spec.prefix), model.spec.context
    sides = [(ClientSession(terms(model, role), name), link) for role, link in enumerate(links, 1)]
    for session, link in sides:
        link.send(session.send_hello())
        welcome, ready = session.receive(link.receive()), session.receive(link.receive())
        print(f"HELLO → {type(welcome).__name__.upper()}, {type(ready).__name__.upper()}")
    keys = sides[0][0].key("streams"), sides[1][0].key("streams")
    dealer = Dealer(model.spec, model.seeds, keys, fresh(32), prefix=prefix, context=context)

    first, count = dealer.next_row, len(PROMPT)
    for session, link in sides:
        link.send(session.send_block(first, count, dealer.dealt_position))
    for section, material in dealer.deal(count):  # ahead of time: nothing in it depends on the prompt
        for (session, link), part in zip(sides, material, strict=True):
            link.send(session.send_material(first, section, part, len(part)))
    print(f"BLOCK, MATERIAL → {links[0].bytes_sent:,} bytes to node 1, {links[1].bytes_sent:,} to node 2")

    step, answers = dealer.request(PROMPT), []
    for session, link in sides:
        link.send(session.send_step(step))
    for session, link in sides:
        event = session.receive(link.receive())
        if not isinstance(event, Answer):
            raise SystemExit("a node did not answer the step")
        answers.append(event)
    compare(*answers)  # the second node sends a digest of the same answer
    print(f"STEP → ANSWER after {answers[0].rounds} rounds between the nodes")
    for session, link in sides:
        link.send(session.send_bye())
    last = first + count - 1
    if dealer.wrapped(last, answers[0].alarm):
        raise SystemExit("a word wrapped, which is rare: run it again")
    return int(dealer.logits(last, answers[0].data).argmax())


def main() -> None:
    """The client in this thread, the nodes in threads of their own."""
    model = small_model()
    with nodes(model) as links:
        print("most likely next token:", chat(model, links))


if __name__ == "__main__":
    main()

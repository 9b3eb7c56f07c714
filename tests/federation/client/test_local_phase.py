"""The local phase: what it trains, scores and says of a client's examples."""

from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values, small

from onebasin.core.state import State
from onebasin.federation.client.local_phase import STATISTICS_EXAMPLES
from onebasin.federation.client.work import Done
from onebasin.federation.messages import Request, read_report
from onebasin.learning.local_training import TrainingFailed
from onebasin.learning.metrics import evaluate
from onebasin.learning.task import Task
from onebasin.networks.weights import copy_into, parameters_of
from onebasin.wire.message import decode_message

MakeTask = Callable[[list[list[float]], list[int]], Task]
USERS = ("task.dataset=tests.user_code:dataset", "task.model=tests.user_code:Tied", "task.partition=iid")
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]


def phase(made: Federation, client: int = 0, round: int = 1) -> Done:
    """Run the phase that the first request of a round asks for."""
    work = made.client.begin(client, made.engine.state_of(client), made.server.open(round)[client])
    return made.client.train(work)


def test_a_phase_on_three_values_by_hand(quadratic: MakeTask) -> None:
    # from 0 half the way to the target; the loss before the step is 1/2 (8^2 + 8^2) = 64
    made = Federation(on_three_values(), quadratic(TARGETS, [3, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    done = phase(made)
    assert done.trained.weights["w"].tolist() == [4.0, 0.0, -4.0]
    assert (done.report.examples, done.report.steps, done.report.loss) == (3, 1, 64.0)
    assert done.sections == ()


def test_a_request_that_asks_for_no_training_leaves_the_model_as_it_is() -> None:
    made = Federation(composition("adopt-one"))
    asked = made.server.close(list(made.engine.exchange(made.server.open(1))))
    ((client, order),) = asked.items()
    kept = made.engine.state_of(client)
    done = made.client.train(made.client.begin(client, kept, order))
    assert all(torch.equal(done.trained.weights[name], value) for name, value in kept.slots["weights"].items())
    assert done.report.steps == 0
    assert done.report.examples == len(made.task.parts[client])


def test_who_begins_with_own_weights_trains_by_the_warm_up_s_recipe() -> None:
    made = Federation(small("fedavg", "method.start=local", "training.warmup=3"))
    steps = []
    for exchange in made.exchanges():
        assert isinstance(exchange.replies[0], bytes)
        steps.append(read_report(decode_message(exchange.replies[0])).steps)
    assert steps[0] == 3 * steps[1]


def test_equal_requests_are_answered_alike_whoever_was_trained_before() -> None:
    """The model counts its passes in a buffer that is no part of its state: no client gets the count of another."""
    made = Federation(small("fedavg", *USERS))
    orders = made.server.open(1)
    first = made.engine.answer(0, orders[0])
    made.engine.answer(1, orders[1])
    assert made.engine.answer(0, orders[0]) == first


def test_a_score_is_that_of_the_trained_model_on_the_test_set() -> None:
    made = Federation(small("local-only"))
    done = phase(made)
    model = made.task.workspace()
    copy_into(parameters_of(model), done.trained.weights)
    score = evaluate(model, made.task.dataset.test)
    assert (done.report.accuracy, done.report.test_loss) == (score.accuracy, score.loss)


def test_a_personal_score_is_on_the_labels_that_the_client_holds() -> None:
    skewed = ('task.partition={kind="classes-per-client", classes=2}', "task.clients=5", "training.epochs=5")
    plain, personal = (
        phase(Federation(small("local-only", *skewed, f"method.score={score}"))).report
        for score in ("mean", "personal")
    )
    assert personal.accuracy > plain.accuracy + 0.3


def test_sections_are_of_the_trained_model_and_of_the_clients_inputs() -> None:
    made = Federation(composition("own starts, repair by clients"))
    done = phase(made, client=2)
    protocol, data = made.client.protocol, made.task.dataset.train
    state, indices = done.trained.weights | done.trained.buffers, made.task.parts[2]
    found = {section.name: section.body for section in done.sections}
    assert list(found) == ["sketch", "statistics"]
    assert found["sketch"] == protocol.neurons.write_sketch(data.inputs[indices], data.targets[indices])
    inputs = data.inputs[indices[:STATISTICS_EXAMPLES]]
    assert found["statistics"] == protocol.neurons.write_statistics(state, inputs)


def test_signatures_are_of_the_trained_model() -> None:
    made = Federation(composition("own starts, signatures"))
    done = phase(made, client=1)
    expected = made.client.protocol.neurons.write_signatures(done.trained.weights)
    assert [(section.name, section.body) for section in done.sections] == [("signatures", expected)]


def test_seed_and_mask_models_are_weights_of_the_clients_seed_or_nothing() -> None:
    made = Federation(composition("own masks"))
    done = phase(made)
    assert Request.SEND_MODEL in done.work.request
    assert list(done.trained.weights) == made.client.protocol.parameters.names
    magnitudes = done.trained.weights["fc1.weight"].abs().unique()
    assert len(magnitudes) == 2
    assert magnitudes[0] == 0
    assert done.trained.optimizer == {}


def test_a_client_without_examples_fails(quadratic: MakeTask) -> None:
    made = Federation(on_three_values(), quadratic(TARGETS, [1, 1]))
    made.task.parts[0] = torch.arange(0)
    with pytest.raises(TrainingFailed, match="this client holds no examples"):
        phase(made)
    assert made.engine.state_of(0) == State()

"""What a run is doing or how it ended, in words, in the languages of the product. Codes stand beside them."""

from domain.training.status import EndReason, RunStage, RunStatus

STAGES: dict[RunStage, tuple[str, str]] = {
    RunStage.WAITING: ("Waiting for a free place", "Aguardando uma vaga"),
    RunStage.GENERATING_CODE: ("Writing the code", "Escrevendo o código"),
    RunStage.CREATING_SANDBOX: ("Preparing the machine", "Preparando a máquina"),
    RunStage.WRITING_FILES: ("Writing the files", "Gravando os arquivos"),
    RunStage.INSTALLING: ("Installing what the training needs", "Instalando o que o treinamento precisa"),
    RunStage.DOWNLOADING_DATA: ("Fetching the data", "Baixando os dados"),
    RunStage.TRAINING: ("Training", "Treinando"),
    RunStage.SAVING: ("Saving the model", "Salvando o modelo"),
    RunStage.DEPLOYING: ("Putting the model online", "Colocando o modelo no ar"),
    RunStage.STOPPING: ("Stopping", "Parando"),
    RunStage.DONE: ("Done", "Concluído"),
}

ENDS: dict[EndReason, tuple[str, str]] = {
    EndReason.SUCCEEDED: ("Ready", "Pronto"),
    EndReason.CANCELED_BY_USER: ("Canceled as you asked", "Cancelado a seu pedido"),
    EndReason.CANCELED_BY_OPERATOR: (
        "Canceled by the operator, or at the provider",
        "Cancelado pelo operador ou no provedor",
    ),
    EndReason.NO_CAPACITY: (
        "The provider had no free machine; try again later or choose another GPU",
        "O provedor não tinha máquina livre; tente mais tarde ou escolha outra GPU",
    ),
    EndReason.OUT_OF_BUDGET: (
        "Stopped before the budget was passed; raise the budget and try again",
        "Parado antes de ultrapassar o orçamento; aumente o orçamento e tente de novo",
    ),
    EndReason.PROVIDER_REFUSED: (
        "The provider refused the request; see the error message",
        "O provedor recusou o pedido; veja a mensagem de erro",
    ),
    EndReason.PROVIDER_ERROR: (
        "The provider failed; try again",
        "Houve uma falha no provedor; tente de novo",
    ),
    EndReason.DATA_ERROR: (
        "The data could not be fetched or read; see the error message and the log",
        "Os dados não puderam ser baixados ou lidos; veja a mensagem de erro e o registro",
    ),
    EndReason.CODE_ERROR: (
        "The training program failed; see the last lines of the log",
        "O programa de treinamento falhou; veja as últimas linhas do registro",
    ),
    EndReason.DIVERGED: (
        "The loss grew without bound; lower the learning rate and try again",
        "A perda cresceu sem limite; reduza a taxa de aprendizado e tente de novo",
    ),
    EndReason.TIMED_OUT: (
        "The time limit was reached; raise timeLimitSeconds and try again",
        "O limite de tempo foi atingido; aumente timeLimitSeconds e tente de novo",
    ),
    EndReason.QUEUE_TIMED_OUT: (
        "No place became free in time; try again later",
        "Nenhuma vaga surgiu a tempo; tente mais tarde",
    ),
    EndReason.MEMORY_LIMIT: (
        "The training needed more memory than it may have; use less data or a smaller model",
        "O treinamento precisou de mais memória do que pode ter; use menos dados ou um modelo menor",
    ),
    EndReason.DISK_LIMIT: (
        "The training wrote more than it may; write less",
        "O treinamento gravou mais do que pode; grave menos",
    ),
    EndReason.IDLE: ("Stopped because nothing happened", "Parado porque nada acontecia"),
    EndReason.DEPLOYMENT_FAILED: (
        "The model is trained, but its address did not answer as it should; deployModel tries again",
        "O modelo foi treinado, mas seu endereço não respondeu como devia; deployModel tenta de novo",
    ),
    EndReason.LOST: (
        "Nothing was heard of the training any more; try again",
        "Não se soube mais nada do treinamento; tente de novo",
    ),
}


def words_for(status: RunStatus, stage: RunStage, reason: EndReason | None, locale: str) -> str:
    """One line for a screen: how the run ended, else what it is doing."""
    if status is RunStatus.CANCELED:
        reason = reason or EndReason.CANCELED_BY_USER
    pair = ENDS[reason] if status.is_final and reason is not None else STAGES[stage]
    return pair[1] if locale == "pt-BR" else pair[0]

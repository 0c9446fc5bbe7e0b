"""scikit-learn's callbacks where it has them (1.9 and later), else nothing."""

from contextlib import contextmanager

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    HAVE_CALLBACKS = True
except ImportError:  # scikit-learn before 1.9
    HAVE_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without callbacks."""

    def with_callbacks(method):
        """Return the method as it is."""
        return method


@contextmanager
def epochs_of_fit(estimator, X, y, max_epochs: int, attributes):
    """Tell the estimator's callbacks of a fit and its epochs.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        What is being fitted.
    X, y : object
        What it is fitted on, for callbacks that score.
    max_epochs : int
        Epochs at most.
    attributes : callable
        Returns the fitted attributes of the moment, with which a callback may predict.

    Yields
    ------
    callable
        To be called after each epoch; True means that a callback asks to stop.
    """
    if not HAVE_CALLBACKS:
        yield lambda: False
        return
    context = estimator._init_callback_context(max_subtasks=max_epochs)
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def after_epoch() -> bool:
        epoch = context.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        return bool(
            epoch.call_on_fit_task_end(
                estimator=estimator, X=X, y=y, reconstruction_attributes=attributes
            )
        )

    yield after_epoch
    context.call_on_fit_task_end(
        estimator=estimator, X=X, y=y, reconstruction_attributes=attributes
    )

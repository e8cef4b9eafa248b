from scoresde._secrets import without_secrets as without_secrets
from scoresde.files import write_json as write_json
from scoresde.files import write_text as write_text
from scoresde.runs.classifier import RunClassifier as RunClassifier
from scoresde.runs.classifier import load_classifier as load_classifier
from scoresde.runs.config import CLASSIFIES as CLASSIFIES
from scoresde.runs.config import CONVERTED as CONVERTED
from scoresde.runs.config import measured as measured
from scoresde.runs.config import read_config as read_config
from scoresde.runs.config import refuse_classifier as refuse_classifier
from scoresde.runs.config import section as section
from scoresde.runs.config import stored_data as stored_data
from scoresde.runs.config import write_config as write_config
from scoresde.runs.folder import CONFIG as CONFIG
from scoresde.runs.folder import SUMMARY as SUMMARY
from scoresde.runs.folder import holds_run as holds_run
from scoresde.runs.folder import locked as locked
from scoresde.runs.folder import new_folder as new_folder
from scoresde.runs.folder import setting as setting
from scoresde.runs.folder import timestamp as timestamp
from scoresde.runs.folder import versions as versions
from scoresde.runs.history import record_changes as record_changes
from scoresde.runs.loading import pick_device as pick_device
from scoresde.runs.run import Run as Run
from scoresde.runs.run import load as load
from scoresde.runs.upgrade import upgraded as upgraded

__all__: list[str]

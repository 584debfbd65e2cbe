import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `endpoint_thread`: shared by the tests of this folder

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `store_contract`, `sample_fixtures`: shared by this folder's tests

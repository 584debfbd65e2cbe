import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `documented_commands`: shared by this folder's tests

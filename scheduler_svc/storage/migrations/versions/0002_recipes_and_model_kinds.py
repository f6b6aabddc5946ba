"""Recipes, and what a job's model reads.

Jobs that are there read text, and come from no recipe.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # A default, because rows exist; SQLite could not take it away again without copying the table.
    kind = sa.Column("model_kind", _name(40), nullable=False, server_default="MODEL_KIND_LLM")
    op.add_column("jobs", kind)
    op.add_column("jobs", sa.Column("recipe", _name(96), nullable=True))
    op.create_table(
        "recipes",
        sa.Column("recipe_id", _name(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recipe_id"),
    )
    op.create_table(
        "recipe_versions",
        sa.Column("recipe_id", _name(64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("yaml", sa.Text(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.recipe_id"]),
        sa.PrimaryKeyConstraint("recipe_id", "version"),
    )


def downgrade() -> None:
    op.drop_table("recipe_versions")
    op.drop_table("recipes")
    op.drop_column("jobs", "recipe")
    op.drop_column("jobs", "model_kind")


def _name(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
